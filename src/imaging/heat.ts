/** Stops of the scale, from nothing to the most (matplotlib's inferno): R, G, B. */
const STOPS = [
  [20, 11, 53],
  [101, 21, 110],
  [188, 55, 84],
  [237, 105, 37],
  [251, 180, 26],
  [252, 255, 164],
] as const;

/**
 * The one colour scale of maps, wherever they are shown: from dark violet over red to light yellow, clear where there is
 * nothing. `share` is 0–1. Returns R, G, B and opacity, each 0–255.
 */
export function heatColour(share: number): [number, number, number, number] {
  const at = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const index = Math.min(STOPS.length - 2, Math.floor(at));
  const [from, to] = [STOPS[index] ?? STOPS[0], STOPS[index + 1] ?? STOPS[0]];
  const mix = (i: 0 | 1 | 2): number => Math.round(from[i] + (to[i] - from[i]) * (at - index));
  // The lowest quarter fades in, so that values near zero do not cover the film.
  return [mix(0), mix(1), mix(2), Math.round(255 * Math.min(1, 4 * Math.max(0, share)))];
}
