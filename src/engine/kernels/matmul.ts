import * as tf from '@tensorflow/tfjs-core';
import { identityOrder } from '../layout.js';
import { ONNX_TYPE } from '../onnx.js';
import { fusedActivation } from './activation.js';
import { asFloat } from './arithmetic.js';
import { input, inputList, kernel, type KernelCall, type KernelDefinition } from './registry.js';
import { toTensorLike } from './shape.js';

interface MatMulAttributes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

function matMul(call: KernelCall): tf.TensorInfo {
  const [a, b] = [input(call, 'a'), input(call, 'b')];
  const product = floatProduct(call, asFloat(call, a), asFloat(call, b));
  if (a.dtype === 'float32' || b.dtype === 'float32') return product;
  return call.tracer.elementwise('Cast', [product], 'int32', { to: ONNX_TYPE.int32 });
}

function floatProduct(call: KernelCall, a: tf.TensorInfo, b: tf.TensorInfo): tf.TensorInfo {
  const { transposeA, transposeB } = call.attrs as unknown as MatMulAttributes;
  const rows = a.shape.at(transposeA ? -1 : -2) ?? 1;
  const columns = b.shape.at(transposeB ? -2 : -1) ?? 1;
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const [inner, other] = [a.shape.at(transposeA ? -2 : -1), b.shape.at(transposeB ? -1 : -2)];
  tf.util.assert(
    a.shape.length >= 2 && b.shape.length >= 2 && inner === other,
    () =>
      `Error in matMul: inner shapes (${inner}) and (${other}) of Tensors with shapes ${a.shape.join()} and ${b.shape.join()} and ` +
      `transposeA=${transposeA} and transposeB=${transposeB} must match.`,
  );
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
  kernel('Einsum', 'Einsum', (call) => {
    const { equation } = call.attrs as { equation: string };
    const tensors = inputList(call);
    const { allDims, summedDims, idDims } = tf.backend_util.decodeEinsumEquation(equation, tensors.length);
    tf.backend_util.checkEinsumDimSizes(allDims.length, idDims, tensors.map(toTensorLike));
    const sizes = new Map(
      tensors.flatMap(({ shape }, index) =>
        (idDims[index] ?? []).map((dim, axis): [number, number] => [dim, shape[axis] ?? 1]),
      ),
    );
    const shape = allDims.flatMap((_, dim) => (summedDims.includes(dim) ? [] : [sizes.get(dim) ?? 1]));
    const names = tensors.map((tensor) => call.tracer.name(tensor));
    return call.tracer.result(call.graph.add('Einsum', names, { equation }), shape, 'float32');
  }),
];
