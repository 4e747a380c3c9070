import { isShadow, verdictOf } from '../core/verdict.js';
import { wilson, type Interval } from '../models/wilson.js';
import type { WorklistFilm } from './worklist.js';

/** A judgement of a film: of the graph as a whole, or of a shadow stage. */
interface Said {
  readonly abnormal: boolean | null;
  /** 0–1, 0.5 at the threshold. */
  readonly suspicion: number | null;
  readonly label: string | null;
}

/** A film that a shadow stage judges differently from the graph. */
export interface Differing {
  readonly id: string;
  readonly file: string;
  readonly graph: Said;
  readonly shadow: Said;
}

/** How a shadow stage agrees with the verdicts, on the same films. */
export interface ShadowComparison {
  readonly stage: string;
  /** Films that both have judged. */
  readonly films: number;
  /** Films that the graph has judged, and the shadow stage has not: it failed, or was not asked. */
  readonly missing: number;
  /** Abnormal or not: how often they agree, and who calls how many abnormal. Null where one of them never says. */
  readonly verdict: {
    readonly agreement: Interval;
    readonly both: number;
    readonly neither: number;
    readonly onlyGraph: number;
    readonly onlyShadow: number;
  } | null;
  /** By the label that the graph's classifier gives: how often the shadow gives the same, and what it gives instead. */
  readonly labels: readonly {
    readonly label: string;
    readonly films: number;
    readonly agreement: Interval;
    readonly shadow: Readonly<Record<string, number>>;
  }[];
  /** The films that they differ on, the furthest apart first. */
  readonly differing: readonly Differing[];
}

/** One per shadow stage that has results. `films`: those that are done are compared. */
export function compareShadows(films: readonly WorklistFilm[]): ShadowComparison[] {
  const done = films.filter(({ outcome }) => outcome === 'done');
  const stages = new Set(
    done.flatMap(({ results }) => Object.keys(results).filter((stage) => isShadow(results[stage]))),
  );
  return [...stages].sort().map((stage) => compare(stage, done));
}

function compare(stage: string, films: readonly WorklistFilm[]): ShadowComparison {
  const judged = films.filter(({ results }) => verdictOf(results).stage !== null);
  const pairs = judged
    .filter(({ results }) => isShadow(results[stage]))
    .map(({ id, file, results }): Differing => ({
      ...{ id, file, graph: saidByGraph(results), shadow: saidBy(results[stage]) },
    }));
  const both = pairs.filter(({ graph, shadow }) => graph.abnormal !== null && shadow.abnormal !== null);
  const count = (graph: boolean, shadow: boolean): number =>
    both.filter((pair) => pair.graph.abnormal === graph && pair.shadow.abnormal === shadow).length;
  const counts = {
    ...{ both: count(true, true), neither: count(false, false) },
    ...{ onlyGraph: count(true, false), onlyShadow: count(false, true) },
  };
  const labelled = pairs.filter(({ graph, shadow }) => graph.label !== null && shadow.label !== null);
  const labels = [...new Set(labelled.map(({ graph }) => graph.label ?? ''))].sort().map((label) => {
    const mine = labelled.filter(({ graph }) => graph.label === label);
    const shadow: Record<string, number> = {};
    for (const { shadow: said } of mine) shadow[said.label ?? ''] = (shadow[said.label ?? ''] ?? 0) + 1;
    return { label, films: mine.length, agreement: wilson(shadow[label] ?? 0, mine.length), shadow };
  });
  return {
    ...{ stage, films: pairs.length, missing: judged.length - pairs.length, labels },
    verdict:
      both.length === 0 ? null : { agreement: wilson(counts.both + counts.neither, both.length), ...counts },
    differing: pairs.filter(differ).sort((a, b) => apart(b) - apart(a)),
  };
}

function differ({ graph, shadow }: Differing): boolean {
  const other = (a: unknown, b: unknown): boolean => a !== null && b !== null && a !== b;
  return other(graph.abnormal, shadow.abnormal) || other(graph.label, shadow.label);
}

/** Films on which one says abnormal and the other not come first, then by how far the suspicions are apart. */
function apart({ graph, shadow }: Differing): number {
  const verdicts = graph.abnormal !== shadow.abnormal ? 1 : 0;
  return verdicts + Math.abs((graph.suspicion ?? 0) - (shadow.suspicion ?? 0));
}

function saidByGraph(results: WorklistFilm['results']): Said {
  const { abnormal, suspicion } = verdictOf(results);
  const labels = Object.values(results)
    .filter((result) => !isShadow(result))
    .map((result) => saidBy(result).label);
  return { abnormal, suspicion, label: labels.find((label) => label !== null) ?? null };
}

function saidBy(result: unknown): Said {
  const { abnormal, suspicion, label } = (result ?? {}) as Record<keyof Said, unknown>;
  return {
    abnormal: typeof abnormal === 'boolean' ? abnormal : null,
    suspicion: typeof suspicion === 'number' ? suspicion : null,
    label: typeof label === 'string' ? label : null,
  };
}
