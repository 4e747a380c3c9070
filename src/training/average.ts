import type { HostTensors } from '../engine/index.js';

/**
 * Exponential moving average of weights: steadier than the last step's, and often better (Izmailov et al.
 * 2018; Karras et al. 2018 for generators). `updates` counts what went in; early on the average
 * gives old weights less influence, so that the random start has no lasting effect.
 */
export function averageInto(
  average: HostTensors,
  weights: HostTensors,
  decay: number,
  updates: number,
): void {
  const keep = Math.min(decay, (1 + updates) / (10 + updates));
  for (const [name, { data, dims }] of Object.entries(weights)) {
    const old = average[name]?.data;
    if (!(data instanceof Float32Array)) continue;
    if (!(old instanceof Float32Array)) {
      average[name] = { data: data.slice(), dims };
      continue;
    }
    for (let i = 0; i < old.length; i++) {
      const value = data[i] ?? 0;
      old[i] = value + keep * ((old[i] ?? 0) - value);
    }
  }
}

export function copyOf(tensors: HostTensors): HostTensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { data, dims }]) => [name, { data: data.slice(), dims }]),
  );
}
