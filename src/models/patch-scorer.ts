import type { HostTensor } from '../engine/index.js';

/**
 * How the distances of a film's patches become its score: `mean` over all patches suits findings that are spread over
 * the film, like most pneumonias; `max` is the paper's, the farthest patch, weighed down where its nearest neighbour is
 * itself among rare ones.
 */
export const PATCH_SCORES = ['mean', 'max'] as const;

export interface PatchScore {
  readonly anomalyScore: number;
  /** Σ of the patches' distances. */
  readonly rawSum: number;
  /** rows × columns: each patch's distance to the nearest remembered one. */
  readonly map: Float32Array;
}

/** Normal patches near the nearest one that the paper's weight looks at, that one included. */
const NEIGHBOURS = 9;

/**
 * Scores from `distances` [N,patches,M] (see `exportPatchcore`).
 *
 * @param memory [places,M,k]: the remembered patches, for the weight of `max`.
 */
export function patchScores(
  distances: HostTensor,
  memory: HostTensor,
  by: (typeof PATCH_SCORES)[number],
): PatchScore[] {
  const [films = 0, patches = 0, size = 0] = distances.dims;
  const all = distances.data as Float32Array;
  return Array.from({ length: films }, (_, film): PatchScore => {
    const rowOf = (patch: number): Float32Array =>
      all.subarray((film * patches + patch) * size, (film * patches + patch + 1) * size);
    const map = Float32Array.from({ length: patches }, (_, patch) =>
      rowOf(patch).reduce((a, b) => Math.min(a, b)),
    );
    const rawSum = map.reduce((a, b) => a + b, 0);
    if (by === 'mean' || Number.isNaN(rawSum)) return { anomalyScore: rawSum / patches, rawSum, map };
    const farthest = map.indexOf(map.reduce((a, b) => Math.max(a, b)));
    return { anomalyScore: weighed(rowOf(farthest), memory, farthest), rawSum, map };
  });
}

/** s = (1 − exp s* ÷ Σ exp d) · s*, the sum over the neighbours of the nearest patch (equation 7). */
function weighed(row: Float32Array, memory: HostTensor, place: number): number {
  const farthest = row.reduce((a, b) => Math.min(a, b));
  const near = neighboursOf(memory, place, row.indexOf(farthest));
  const sum = near.reduce((total, at) => total + Math.exp((row[at] ?? 0) - farthest), 0);
  return (1 - 1 / sum) * farthest;
}

/** The remembered patches nearest to one of them, of the same list, itself first. */
function neighboursOf({ data, dims }: HostTensor, place: number, nearest: number): number[] {
  const [places = 1, size = 0, axes = 0] = dims;
  const start = (places === 1 ? 0 : place) * size;
  const at = (patch: number, axis: number): number => Number(data[(start + patch) * axes + axis]);
  const squares = Float32Array.from({ length: size }, (_, patch) => {
    let square = 0;
    for (let axis = 0; axis < axes; axis++) square += (at(patch, axis) - at(nearest, axis)) ** 2;
    return square;
  });
  return Array.from(squares.keys())
    .sort((a, b) => (squares[a] ?? 0) - (squares[b] ?? 0))
    .slice(0, NEIGHBOURS);
}
