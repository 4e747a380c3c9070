/** 2 |A ∩ B| ÷ (|A| + |B|) of two masks, to which whatever is above 0 belongs; 1 where both are empty. */
export function diceOf(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let both = 0;
  let sum = 0;
  for (let i = 0; i < a.length; i++) {
    const [inA, inB] = [(a[i] ?? 0) > 0, (b[i] ?? 0) > 0];
    if (inA && inB) both++;
    sum += Number(inA) + Number(inB);
  }
  return sum === 0 ? 1 : (2 * both) / sum;
}
