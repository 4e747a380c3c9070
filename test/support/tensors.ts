import type { HostTensors } from '../../src/engine/index.js';

/** The largest difference of two values at the same place; NaN where tensors of `expected` are missing or shorter. */
export function largestDifference(found: HostTensors, expected: HostTensors): number {
  let largest = 0;
  for (const [name, { data }] of Object.entries(expected)) {
    const others = found[name]?.data ?? [];
    data.forEach((value, i) => {
      largest = Math.max(largest, Math.abs(Number(value) - Number(others[i])));
    });
  }
  return largest;
}
