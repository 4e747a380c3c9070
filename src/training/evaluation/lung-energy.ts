import type { Weights } from './bootstrap.js';
import { withIntervals, type Intervals } from './figures.js';
import type { EvidenceMap } from './grad-cam.js';
import type { LungMasks } from './lung-masks.js';

/** How much of a classifier's evidence lies in the lungs: means over the films, with intervals. */
export interface LungEnergy {
  /** Those with evidence. */
  readonly films: number;
  /** `given`, or the name of the model that found the lungs. */
  readonly masks: string;
  /** Films on which that model found no two plausible lungs. */
  readonly implausible: number;
  /** The share of the energy of Grad-CAM, for the class that the model names, inside the lungs. */
  readonly energy: number | null;
  /** The share of the film that is lung: what evidence spread evenly would have. */
  readonly area: number | null;
  /** Energy by area: 1 for evidence spread evenly. */
  readonly ratio: number | null;
  readonly intervals: Intervals;
}

/**
 * @param maps Of each film; its mask has `size`.
 * @param resamples Draws of all films.
 */
export function lungEnergy(
  maps: readonly EvidenceMap[],
  { masks, from, implausible }: LungMasks,
  size: { readonly width: number; readonly height: number },
  resamples: readonly Weights[],
): LungEnergy {
  const shares = maps.map((map, i) => sharesOf(map, masks[i] ?? new Uint8Array(), size));
  const mean =
    (of: 'energy' | 'area') =>
    (weights?: Weights): number | null => {
      let [sum, films] = [0, 0];
      shares.forEach((share, i) => {
        const weight = weights === undefined ? 1 : (weights[i] ?? 0);
        if (share === undefined) return;
        sum += weight * share[of];
        films += weight;
      });
      return films === 0 ? null : sum / films;
    };
  const [energy, area] = [mean('energy'), mean('area')];
  const ratio = (weights?: Weights): number | null => {
    const [inside, lung] = [energy(weights), area(weights)];
    return inside === null || lung === null || lung === 0 ? null : inside / lung;
  };
  const films = shares.filter((share) => share !== undefined).length;
  return { films, masks: from, implausible, ...withIntervals({ energy, area, ratio }, resamples) };
}

/** Of one film; undefined without any evidence. */
function sharesOf(
  map: EvidenceMap,
  mask: Uint8Array,
  { width, height }: { readonly width: number; readonly height: number },
): { readonly energy: number; readonly area: number } | undefined {
  let [inside, all, lung] = [0, 0, 0];
  for (let y = 0; y < height; y++) {
    const row = Math.floor((y * map.height) / height) * map.width;
    for (let x = 0; x < width; x++) {
      const evidence = map.data[row + Math.floor((x * map.width) / width)] ?? 0;
      all += evidence;
      if (mask[y * width + x] !== 1) continue;
      inside += evidence;
      lung += 1;
    }
  }
  return all === 0 ? undefined : { energy: inside / all, area: lung / (width * height) };
}
