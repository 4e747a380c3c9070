import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Pipeline } from '../core/config/pipeline.js';
import { readBundle, type Bundle } from '../models/bundle.js';
import type { Reference } from '../models/reference.js';
import type { WorklistFilm } from './worklist.js';

/** The trained model of a stage. */
export interface Model {
  /** The stage that uses it. */
  readonly stage: string;
  readonly use: string;
  /** Absolute; never sent to clients. */
  readonly dir: string;
  /** The name of the bundle's folder. */
  readonly folder: string;
  readonly bundle: Bundle;
  /** Scores of normal films by the stage's method. */
  readonly reference?: Reference;
  /** Its README.md, Markdown; empty when it has none. */
  readonly card: string;
}

/** The models of a graph: every stage with a `bundle` option, whose bundle can be read. */
export async function modelsOf(pipeline: Pipeline): Promise<Model[]> {
  const models = pipeline.stages.map(async ({ id, plugin, settings }): Promise<Model | null> => {
    const { bundle: path, method = plugin.name } = (settings ?? {}) as { bundle?: unknown; method?: unknown };
    if (typeof path !== 'string') return null;
    const dir = resolve(pipeline.baseDir, path);
    const bundle = await readBundle(dir).catch(() => null);
    if (bundle === null) return null;
    const card = await readFile(join(dir, 'README.md'), 'utf8').catch(() => '');
    const reference = new Map<unknown, Reference>(Object.entries(bundle.reference ?? {})).get(method);
    return {
      ...{ stage: id, use: plugin.name, dir, folder: basename(dir), bundle, card },
      ...(reference && { reference }),
    };
  });
  return (await Promise.all(models)).filter((model) => model !== null);
}

// ── drift ─────────────────────────────────────────────────────────────────────────────────────────

/** Number of recent films that are compared. */
const RECENT = 1000;
/** With fewer films the index is mostly noise. */
const ENOUGH = 100;
const BINS = 20;
/** A share of zero would make the index infinite. */
const LEAST_SHARE = 1e-4;

/** How recent films differ from those that a model was evaluated on. */
export interface Drift {
  readonly stage: string;
  readonly model: string;
  /** `anomalyScore` against the reference scores, or `label` against the classes of the training films. */
  readonly of: 'anomalyScore' | 'label';
  /** Number of compared films. */
  readonly films: number;
  /** The population stability index: the sum of (p − q) · ln(p ÷ q) over deciles, or labels. */
  readonly psi: number | null;
  /** By the usual rule of thumb: below 0.1 `stable`, below 0.25 `moderate`, else `shifted`. */
  readonly level: 'too few films' | 'stable' | 'moderate' | 'shifted';
  /** For a chart: the bins (lower edges of equal width, or labels), and both shares. */
  readonly bins: readonly (number | string)[];
  readonly reference: readonly number[];
  readonly recent: readonly number[];
}

/** One per model with a reference. `films`: oldest first. */
export function driftOf(models: readonly Model[], films: readonly WorklistFilm[]): Drift[] {
  return models.flatMap((model): Drift[] => {
    const results = films
      .map(({ results }) => results[model.stage])
      .filter((result) => result !== undefined)
      .slice(-RECENT) as { anomalyScore?: unknown; label?: unknown }[];
    const { reference, bundle } = model;
    const { labels, data } = bundle;
    if (reference !== undefined) {
      const scores = results
        .map(({ anomalyScore }) => anomalyScore)
        .filter((score) => typeof score === 'number');
      return [{ ...headOf(model), of: 'anomalyScore', ...scoreDrift(reference.scores, scores) }];
    }
    const classes = data.counts['train'] ?? Object.values(data.counts)[0];
    if (labels.length === 0 || classes === undefined) return [];
    const expected = shares(labels.map((label) => classes[label] ?? 0));
    const actual = shares(labels.map((label) => results.filter((result) => result.label === label).length));
    const compared = compare(expected, actual, results.length);
    return [
      {
        ...headOf(model),
        of: 'label',
        ...compared,
        bins: labels,
        reference: expected,
        recent: actual,
      },
    ];
  });
}

function headOf({ stage, bundle }: Model): { stage: string; model: string } {
  return { stage, model: bundle.name };
}

/** The index over the reference's deciles; the chart over bins of equal width. `reference` is ascending. */
function scoreDrift(
  reference: readonly number[],
  recent: readonly number[],
): Omit<Drift, 'stage' | 'model' | 'of'> {
  const deciles = Array.from(
    { length: 9 },
    (_, i) => reference[Math.floor(((i + 1) * reference.length) / 10)] ?? Infinity,
  );
  const all = [...reference, ...recent];
  const low = all.reduce((a, b) => Math.min(a, b), Infinity);
  const high = all.reduce((a, b) => Math.max(a, b), -Infinity);
  const width = (high - low) / BINS;
  const edges = Array.from({ length: BINS - 1 }, (_, i) => low + (i + 1) * width);
  return {
    ...compare(shares(countIn(deciles, reference)), shares(countIn(deciles, recent)), recent.length),
    bins: [low, ...edges],
    reference: shares(countIn(edges, reference)),
    recent: shares(countIn(edges, recent)),
  };
}

function compare(
  expected: readonly number[],
  actual: readonly number[],
  films: number,
): Pick<Drift, 'films' | 'psi' | 'level'> {
  if (films < ENOUGH) return { films, psi: null, level: 'too few films' };
  const psi = populationStabilityIndex(expected, actual);
  return { films, psi, level: psi < 0.1 ? 'stable' : psi < 0.25 ? 'moderate' : 'shifted' };
}

/** Σ (p − q) · ln(p ÷ q) over two distributions of shares. */
export function populationStabilityIndex(expected: readonly number[], actual: readonly number[]): number {
  return expected.reduce((sum, share, i) => {
    const q = Math.max(share, LEAST_SHARE);
    const p = Math.max(actual[i] ?? 0, LEAST_SHARE);
    return sum + (p - q) * Math.log(p / q);
  }, 0);
}

/** The number of values in each bin; the first bin is below `edges[0]`. */
function countIn(edges: readonly number[], values: readonly number[]): number[] {
  const counts = Array<number>(edges.length + 1).fill(0);
  for (const value of values) {
    const found = edges.findIndex((edge) => value < edge);
    const bin = found < 0 ? edges.length : found;
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  return counts;
}

function shares(counts: readonly number[]): number[] {
  const total = counts.reduce((a, b) => a + b, 0);
  return counts.map((count) => (total === 0 ? 0 : count / total));
}
