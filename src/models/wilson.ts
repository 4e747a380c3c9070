/** A figure with its 95 % interval. */
export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** A share of films with its 95 % interval (Wilson 1927), which holds for few films and near 0 and 1 too. */
export function wilson(part: number, films: number): Interval {
  const z = 1.959964;
  const share = part / films;
  const middle = (share + z ** 2 / (2 * films)) / (1 + z ** 2 / films);
  const reach =
    (z * Math.sqrt((share * (1 - share)) / films + z ** 2 / (4 * films ** 2))) / (1 + z ** 2 / films);
  return { value: share, low: Math.max(0, middle - reach), high: Math.min(1, middle + reach) };
}
