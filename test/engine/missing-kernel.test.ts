import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { EngineError, traceToOnnx, type TraceableFunction } from '../../src/engine/index.js';
import { KERNEL_GROUPS } from '../../src/engine/kernels/index.js';
import { LEFT_OUT } from '../../src/engine/missing-kernel.js';

/** Kernels that TensorFlow.js names but never calls on a backend like this one. */
const NEVER_CALLED = ['EluGrad', 'LogicalXor', 'Pool'];

function failure(fn: TraceableFunction, shape: number[]): EngineError {
  try {
    traceToOnnx(fn, { x: { shape } });
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
  throw new Error('Expected the trace to fail.');
}

describe('an op that is not traced', () => {
  const traced = Object.values(KERNEL_GROUPS).flatMap((group) => group.map(({ kernel }) => kernel));
  const leftOut = LEFT_OUT.flatMap(({ kernels }) => kernels);

  it('is listed as such: every kernel of TensorFlow.js is traced or left out, none is both', () => {
    const exported: unknown[] = Object.values(tf);
    const named = exported.filter(
      (value): value is string => typeof value === 'string' && /^_?[A-Z]\w+$/.test(value),
    );
    const unknown = named.filter((name) => ![...traced, ...leftOut, ...NEVER_CALLED].includes(name));
    expect(unknown).to.deep.equal([]);
    expect(traced.filter((name) => leftOut.includes(name))).to.deep.equal([]);
  });

  it('fails with its name, the place of the call and what to use instead', () => {
    const network = ({ x }: Record<string, tf.Tensor>): { y: tf.Tensor } => ({
      y: tf.conv3d(x as tf.Tensor4D, tf.ones([2, 2, 2, 3, 1]), 1, 'same'),
    });
    const error = failure(network, [4, 4, 4, 3]);
    expect(error.code).to.equal('missing-kernel');
    expect(error.message)
      .to.match(/"Conv3D"/)
      .and.to.match(/called at network .*missing-kernel\.test\.ts:\d+/)
      .and.to.match(/put the slices into the batch/);
  });

  it('fails with the place of tf.grad, where only its gradient is missing', () => {
    const slope = ({ x }: Record<string, tf.Tensor>): { y: tf.Tensor } => ({
      y: tf.grad((value) => tf.stridedSlice(value, [0], [4], [2]))(x as tf.Tensor),
    });
    const error = failure(slope, [4]);
    expect(error.code).to.equal('missing-kernel');
    expect(error.message)
      .to.match(/"StridedSlice" has no gradient/)
      .and.to.match(/missing-kernel\.test\.ts:\d+/);
  });
});
