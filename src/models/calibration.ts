/**
 * Probabilities of another temperature: softmax(logits ÷ T), of the softmax of the logits themselves (Guo et al. 2017,
 * "On Calibration of Modern Neural Networks"). Above 1 they become less confident, below 1 more; the order of the
 * classes does not change.
 */
export function temper(probabilities: readonly number[], temperature: number): number[] {
  const highest = Math.max(...probabilities);
  const powers = probabilities.map((p) => (p / highest) ** (1 / temperature));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/**
 * The temperature that makes the films' own labels most probable, 0.05–20. The likelihood has one
 * maximum along it, so a golden-section search finds it.
 *
 * @param truth Index of each film's label.
 */
export function fitTemperature(
  probabilities: readonly (readonly number[])[],
  truth: ArrayLike<number>,
): number {
  const loss = (logTemperature: number): number =>
    probabilities.reduce((sum, row, i) => {
      const p = temper(row, Math.exp(logTemperature))[truth[i] ?? -1] ?? NaN;
      return sum - Math.log(Math.max(p, 1e-12));
    }, 0);
  const ratio = (Math.sqrt(5) - 1) / 2;
  let [low, high] = [Math.log(0.05), Math.log(20)];
  let [a, b] = [high - ratio * (high - low), low + ratio * (high - low)];
  let [lossA, lossB] = [loss(a), loss(b)];
  while (high - low > 1e-5) {
    if (lossA < lossB) {
      [high, b, lossB] = [b, a, lossA];
      a = high - ratio * (high - low);
      lossA = loss(a);
    } else {
      [low, a, lossA] = [a, b, lossB];
      b = low + ratio * (high - low);
      lossB = loss(b);
    }
  }
  return Math.exp((low + high) / 2);
}
