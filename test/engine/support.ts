import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { expect } from 'chai';
import {
  registerAllGradients,
  type HostTensor,
  type HostTensors,
  type TensorMap,
} from '../../src/engine/index.js';

/** Selects TensorFlow.js' CPU backend, the reference of every numeric test. */
export async function useCpuBackend(): Promise<void> {
  // Keeps TensorFlow.js from advising a native backend on the console.
  tf.env().set('PROD', true);
  registerAllGradients();
  await tf.setBackend('cpu');
}

/** Eager tensors from host tensors. */
export function toTensors(tensors: HostTensors): TensorMap {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { data, dims }]) => [
      name,
      tf.tensor(data as Float32Array, [...dims], data instanceof Int32Array ? 'int32' : 'float32'),
    ]),
  );
}

/** Host tensors from eager tensors. */
export function toHost(tensors: TensorMap): HostTensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [name, { data: tensor.dataSync(), dims: tensor.shape }]),
  );
}

/** Largest difference relative to the largest expected value (or to 1e-3 where all are smaller). */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let largest = 1e-3;
  let worst = 0;
  for (let index = 0; index < expected.length; index++) {
    const value = Number(expected[index]);
    const error = Math.abs(Number(actual[index]) - value);
    if (!(error <= worst)) worst = error;
    largest = Math.max(largest, Math.abs(value));
  }
  return worst / largest;
}

/** Asserts equal names, shapes and, within `tolerance` of the largest value, elements. */
export function expectClose(actual: HostTensors, expected: HostTensors, tolerance = 1e-4): void {
  expect(Object.keys(actual).sort()).to.deep.equal(Object.keys(expected).sort());
  for (const [name, { data, dims }] of Object.entries(expected)) {
    const got = actual[name];
    expect(got?.dims, `shape of ${name}`).to.deep.equal(dims);
    const error = relativeError(numbers(got), numbers({ data, dims }));
    expect(error, `relative error of ${name}`).to.be.at.most(tolerance);
  }
}

/** Rows `start`…`end` of the first axis. */
export function rows({ data, dims }: HostTensor, start: number, end: number): HostTensor {
  const size = data.length / (dims[0] ?? 1);
  return { data: data.slice(start * size, end * size), dims: [end - start, ...dims.slice(1)] };
}

/** The elements of a tensor as plain numbers; empty for a tensor that is missing. */
export function numbers(tensor: HostTensor | undefined): number[] {
  return tensor ? Array.from<number | bigint, number>(tensor.data, Number) : [];
}
