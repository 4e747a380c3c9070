import type * as tf from '@tensorflow/tfjs-core';
import { identityOrder } from '../layout.js';
import { fusedActivation } from './activation.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';

interface MatMulAttributes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

function matMul(call: KernelCall): tf.TensorInfo {
  const { transposeA, transposeB } = call.attrs as unknown as MatMulAttributes;
  const a = input(call, 'a');
  const b = input(call, 'b');
  const rows = a.shape.at(transposeA ? -1 : -2) ?? 1;
  const columns = b.shape.at(transposeB ? -2 : -1) ?? 1;
  const batchA = a.shape.slice(0, -2);
  const batchB = b.shape.slice(0, -2);
  const batch = batchA.map((dim, axis) => Math.max(dim, batchB[axis] ?? 1));
  const shape = [...batch, rows, columns];
  if (a.shape.length === 2 && b.shape.length === 2) {
    // Gemm multiplies transposed operands without moving them.
    const name = call.graph.add('Gemm', [call.tracer.name(a), call.tracer.name(b)], {
      transA: transposeA ? 1 : 0,
      transB: transposeB ? 1 : 0,
    });
    return call.tracer.result(name, shape, 'float32');
  }
  const name = call.graph.add('MatMul', [operand(call, a, transposeA), operand(call, b, transposeB)]);
  return call.tracer.result(name, shape, 'float32');
}

function operand({ tracer }: KernelCall, x: tf.TensorInfo, transposed: boolean): string {
  const order = identityOrder(x.shape.length);
  if (transposed) order.push(...order.splice(-2).reverse());
  return tracer.name(x, order);
}

/** Matrix products. */
export const matmul: readonly KernelDefinition[] = [
  kernel('BatchMatMul', 'Gemm (rank 2), MatMul', matMul),
  kernel('_FusedMatMul', 'Gemm or MatMul, Add, activation', (call) => {
    const product = matMul(call);
    const bias = call.inputs['bias'];
    const sum = bias ? call.tracer.elementwise('Add', [product, bias], 'float32') : product;
    return fusedActivation(call, sum);
  }),
];
