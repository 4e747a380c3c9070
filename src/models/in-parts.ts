import type { HostTensor, HostTensors } from '../engine/index.js';

/** Samples that a network takes at most at a time on `webgpu`: above it, the time for each doubles (docs/performance.md). */
export const WEBGPU_BATCH = 32;

/**
 * Runs a network on `most` samples at a time: 1 for one exported for a batch of one, which is PyTorch's default. The rows of
 * its float outputs are joined; outputs of other types are left out.
 *
 * @param samples [N, …].
 */
export async function inParts(
  samples: HostTensor,
  most: number,
  run: (part: HostTensor) => Promise<HostTensors>,
): Promise<HostTensors> {
  const { data, dims } = samples;
  const [count = 0, ...rest] = dims;
  if (count <= most) return run(samples);
  const size = data.length / count;
  const outputs = new Map<string, HostTensor[]>();
  for (let from = 0; from < count; from += most) {
    const to = Math.min(count, from + most);
    const part = { data: data.slice(from * size, to * size), dims: [to - from, ...rest] };
    for (const [name, tensor] of Object.entries(await run(part))) {
      if (!outputs.has(name)) outputs.set(name, []);
      outputs.get(name)?.push(tensor);
    }
  }
  return Object.fromEntries(
    [...outputs]
      .filter(([, tensors]) => tensors.every((tensor) => tensor.data instanceof Float32Array))
      .map(([name, tensors]) => [name, joined(tensors)]),
  );
}

/** [A, …] and [B, …] as [A+B, …]. */
function joined(tensors: readonly HostTensor[]): HostTensor {
  const data = new Float32Array(tensors.reduce((length, tensor) => length + tensor.data.length, 0));
  let [at, rows] = [0, 0];
  for (const tensor of tensors) {
    data.set(tensor.data as Float32Array, at);
    at += tensor.data.length;
    rows += tensor.dims[0] ?? 0;
  }
  return { data, dims: [rows, ...(tensors[0]?.dims.slice(1) ?? [])] };
}
