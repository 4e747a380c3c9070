import { EigenvalueDecomposition, Matrix } from 'ml-matrix';
import { RxrayError } from '../core/errors.js';
import type { Engine, HostTensors } from '../engine/index.js';
import {
  exportPatchcore,
  exportPatchFeatures,
  patchGrid,
  type PatchcoreOptions,
  type PatchMemory,
} from '../models/patch-core.js';
import { patchScores, type PATCH_SCORES, type PatchScore } from '../models/patch-scorer.js';
import { seededRandom } from '../models/random.js';
import { coreset } from './coreset.js';
import type { FilmScoring } from './hooks.js';
import { imagesOf, unscaledInput, type PreparedFilms } from './preprocess.js';

export interface MemorySettings {
  /** Principal axes of the patch features that are kept. */
  readonly axes: number;
  /** Share of the patches that the memory keeps. */
  readonly coreset: number;
  /** A list for each place of the grid, for films that show the same thing at the same place; else one for all. */
  readonly byPlace: boolean;
  readonly score: (typeof PATCH_SCORES)[number];
  readonly seed: number;
}

const AT_ONCE = 32;
/** An axis is scaled as if its variance were at least this share of the largest. */
const LEAST_VARIANCE = 1e-3;

/**
 * Fills the memory: the features of all patches of the given films, whitened by their principal axes, and
 * the coreset of them.
 */
export async function rememberPatches(
  engine: Engine,
  parameters: HostTensors,
  options: PatchcoreOptions,
  films: PreparedFilms,
  normals: Uint32Array,
  { axes, coreset: share, byPlace, seed }: MemorySettings,
  onProgress?: (done: number, total: number) => void,
): Promise<PatchMemory> {
  const session = await engine.load(exportPatchFeatures(parameters, options), { name: 'patch features' });
  const [rows, columns] = patchGrid(options);
  const places = rows * columns;
  let features = new Float32Array(0);
  let channels = 0;
  for (let from = 0; from < normals.length; from += AT_ONCE) {
    const images = imagesOf(films, normals.subarray(from, from + AT_ONCE), unscaledInput(films));
    const found = (await session.run({ images })).features;
    if (found === undefined) throw new Error('the network returns no "features"');
    channels = found.dims.at(-1) ?? 0;
    if (features.length === 0) features = new Float32Array(normals.length * places * channels);
    features.set(found.data as Float32Array, from * places * channels);
    onProgress?.(Math.min(normals.length, from + AT_ONCE), normals.length);
  }
  await session.dispose();

  const { mean, projection, kept } = whitening(features, channels, axes);
  const patches = projected(features, mean, projection, channels, kept);
  const lists = byPlace ? places : 1;
  const patchesAList = patches.length / kept / lists;
  const count = Math.max(1, Math.round(patchesAList * share));
  const memory = new Float32Array(lists * count * kept);
  for (let list = 0; list < lists; list++) {
    const members = byPlace ? ofPlace(patches, list, places, kept) : patches;
    const chosen = coreset(members, kept, count, seededRandom(seed, list));
    chosen.forEach((patch, at) => {
      memory.set(members.subarray(patch * kept, (patch + 1) * kept), (list * count + at) * kept);
    });
  }
  return {
    mean: { data: mean, dims: [channels] },
    projection: { data: projection, dims: [channels, kept] },
    memory: { data: memory, dims: [lists, count, kept] },
  };
}

/** Scores films with the exported model, as serving does. */
export async function scorePatches(
  engine: Engine,
  parameters: HostTensors,
  memory: PatchMemory,
  options: PatchcoreOptions,
  films: PreparedFilms,
  index: Uint32Array,
  score: MemorySettings['score'],
  { half = false, onProgress }: FilmScoring = {},
): Promise<PatchScore[]> {
  const model = exportPatchcore(parameters, memory, options, { half });
  const session = await engine.load(model, { name: 'patchcore' });
  const scores: PatchScore[] = [];
  for (let from = 0; from < index.length; from += AT_ONCE) {
    const images = imagesOf(films, index.subarray(from, from + AT_ONCE), unscaledInput(films));
    const { distances } = await session.run({ images });
    if (distances === undefined) throw new Error('the network returns no "distances"');
    scores.push(...patchScores(distances, memory.memory, score));
    onProgress?.(scores.length, index.length);
  }
  await session.dispose();
  return scores;
}

/** The mean of the features, and their principal axes as columns, each divided by its standard deviation. */
function whitening(
  features: Float32Array,
  channels: number,
  axes: number,
): { mean: Float32Array; projection: Float32Array; kept: number } {
  const n = features.length / channels;
  const mean = new Float64Array(channels);
  features.forEach((value, i) => {
    mean[i % channels] = (mean[i % channels] ?? 0) + value / n;
  });
  if (!mean.every(Number.isFinite)) {
    throw new RxrayError(
      'TRAINING_DATA',
      'the features are no numbers: the training of the network diverged; lower the learning rate (--lr)',
    );
  }
  const covariance = Matrix.zeros(channels, channels);
  for (let from = 0; from < n; from += AT_ONCE * channels) {
    const count = Math.min(AT_ONCE * channels, n - from);
    const centred = new Matrix(count, channels);
    for (let i = 0; i < count; i++) {
      for (let c = 0; c < channels; c++) {
        centred.set(i, c, (features[(from + i) * channels + c] ?? 0) - (mean[c] ?? 0));
      }
    }
    covariance.add(centred.transpose().mmul(centred).div(n));
  }
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(covariance, {
    assumeSymmetric: true,
  });
  const order = Array.from(realEigenvalues.keys()).sort(
    (a, b) => (realEigenvalues[b] ?? 0) - (realEigenvalues[a] ?? 0),
  );
  const kept = Math.min(axes, channels);
  const least = LEAST_VARIANCE * (realEigenvalues[order[0] ?? 0] ?? 0);
  const projection = new Float32Array(channels * kept);
  for (let c = 0; c < channels; c++) {
    for (let axis = 0; axis < kept; axis++) {
      const column = order[axis] ?? 0;
      const variance = Math.max(0, realEigenvalues[column] ?? 0) + least;
      projection[c * kept + axis] = eigenvectorMatrix.get(c, column) / Math.sqrt(variance || 1);
    }
  }
  return { mean: Float32Array.from(mean), projection, kept };
}

function projected(
  features: Float32Array,
  mean: Float32Array,
  projection: Float32Array,
  channels: number,
  kept: number,
): Float32Array {
  const n = features.length / channels;
  const patches = new Float32Array(n * kept);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < channels; c++) {
      const value = (features[i * channels + c] ?? 0) - (mean[c] ?? 0);
      for (let axis = 0; axis < kept; axis++) {
        patches[i * kept + axis] =
          (patches[i * kept + axis] ?? 0) + value * (projection[c * kept + axis] ?? 0);
      }
    }
  }
  return patches;
}

/** The patches of one place, of every film. */
function ofPlace(patches: Float32Array, place: number, places: number, size: number): Float32Array {
  const films = patches.length / size / places;
  const members = new Float32Array(films * size);
  for (let film = 0; film < films; film++) {
    const at = (film * places + place) * size;
    members.set(patches.subarray(at, at + size), film * size);
  }
  return members;
}
