import * as tf from '@tensorflow/tfjs-core';
import { EngineError } from '../errors.js';
import { sizeOf } from '../host-tensor.js';
import { identityOrder } from '../layout.js';
import { ONNX_TYPE } from '../onnx.js';
import { dtypeOf } from '../tracer.js';
import { input, kernel, type KernelCall, type KernelDefinition } from './registry.js';
import { reshape, toTensorLike, transpose } from './shape.js';

/** ONNX name of indices as int64, which the *ND operators ask for. */
function longIndices({ tracer, graph }: KernelCall, indices: tf.TensorInfo): string {
  return graph.add('Cast', [tracer.name(indices)], { to: ONNX_TYPE.int64 });
}

function gather(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const x = input(call, 'x');
  const indices = input(call, 'indices');
  const { axis, batchDims } = call.attrs as { axis: number; batchDims: number };
  const at = tf.util.parseAxisParam(axis, x.shape)[0] ?? 0;
  const shared = batchDims < 0 ? batchDims + indices.shape.length : batchDims;
  // It says what is wrong with the shapes, if anything is.
  tf.backend_util.segment_util.collectGatherOpShapeInfo(toTensorLike(x), toTensorLike(indices), at, shared);
  const shape = [...x.shape.slice(0, at), ...indices.shape.slice(shared), ...x.shape.slice(at + 1)];
  if (shared === 0) {
    const name = graph.add('Gather', [tracer.name(x), tracer.name(indices)], { axis: at });
    return tracer.result(name, shape, dtypeOf(x));
  }
  // GatherND picks along the first axis after the shared ones: the others between step behind the picked one.
  const between = identityOrder(at).slice(shared);
  const order = [...identityOrder(shared), at, ...between, ...identityOrder(x.shape.length).slice(at + 1)];
  const rows = tracer.name(transpose(call, x, order));
  const each = graph.add('Reshape', [longIndices(call, indices), graph.dimensions([...indices.shape, 1])]);
  const name = graph.add('GatherND', [rows, each], { batch_dims: shared });
  const picked = indices.shape.slice(shared);
  const rest = [...between.map((index) => x.shape[index] ?? 1), ...x.shape.slice(at + 1)];
  const found = tracer.result(name, [...indices.shape, ...rest], dtypeOf(x));
  const back = [
    ...identityOrder(shared),
    ...between.map((_, index) => shared + picked.length + index),
    ...picked.map((_, index) => shared + index),
    ...x.shape.slice(at + 1).map((_, index) => at + picked.length + index),
  ];
  return transpose(call, found, back);
}

function gatherNd(call: KernelCall): tf.TensorInfo {
  const params = input(call, 'params');
  const indices = input(call, 'indices');
  tf.backend_util.prepareAndValidate(toTensorLike(params), toTensorLike(indices));
  const depth = indices.shape.at(-1) ?? 0;
  const name = call.graph.add('GatherND', [call.tracer.name(params), longIndices(call, indices)]);
  const shape = [...indices.shape.slice(0, -1), ...params.shape.slice(depth)];
  return call.tracer.result(name, shape, dtypeOf(params));
}

/** Zeros of `shape` with the updates added where the indices say. */
function scatterNd(call: KernelCall): tf.TensorInfo {
  const updates = input(call, 'updates');
  const { shape } = call.attrs as { shape: number[] };
  const given = input(call, 'indices');
  const indices = given.shape.length > 1 ? given : reshape(call, given, [...given.shape, 1]);
  const zeros = call.tracer.name(call.tracer.host({ values: [0], shape, dtype: dtypeOf(updates), splat: 0 }));
  const name = call.graph.add('ScatterND', [zeros, longIndices(call, indices), call.tracer.name(updates)], {
    reduction: 'add',
  });
  return call.tracer.result(name, shape, dtypeOf(updates));
}

/** Sums of the rows of each segment; rows of segments that do not exist land in one row too many. */
function segmentSum(call: KernelCall): tf.TensorInfo {
  const { tracer, graph } = call;
  const x = input(call, 'x');
  const ids = input(call, 'segmentIds');
  const { numSegments } = call.attrs as { numSegments: number };
  const count = sizeOf(ids.shape);
  const rest = x.shape.slice(ids.shape.length);
  const long = graph.add('Reshape', [longIndices(call, ids), graph.dimensions([count, 1])]);
  const last = graph.scalar(numSegments, 'int64');
  const known = graph.add('And', [
    graph.add('GreaterOrEqual', [long, graph.scalar(0, 'int64')]),
    graph.add('Less', [long, last]),
  ]);
  const rows = graph.add('Reshape', [tracer.name(x), graph.dimensions([count, ...rest])]);
  const splat = { values: [0], shape: [numSegments + 1, ...rest], dtype: dtypeOf(x), splat: 0 };
  const sums = graph.add(
    'ScatterND',
    [tracer.name(tracer.host(splat)), graph.add('Where', [known, long, last]), rows],
    { reduction: 'add' },
  );
  const name = graph.add('Slice', [
    sums,
    graph.integers([0]),
    graph.integers([numSegments]),
    graph.integers([0]),
  ]);
  return tracer.result(name, [numSegments, ...rest], dtypeOf(x));
}

function topK(call: KernelCall): tf.TensorInfo[] {
  const { tracer, graph } = call;
  const x = input(call, 'x');
  const { k } = call.attrs as { k: number };
  const shape = [...x.shape.slice(0, -1), k];
  const [values = '', positions = ''] = graph.addMany('TopK', [tracer.name(x), graph.integers([k])], 2, {
    axis: x.shape.length - 1,
    sorted: 1,
  });
  const indices = graph.add('Cast', [positions], { to: ONNX_TYPE.int32 });
  return [tracer.result(values, shape, dtypeOf(x)), tracer.result(indices, shape, 'int32')];
}

/** A constant [depth] of class numbers, compared with the indices: any index shape, any type of result. */
function oneHot(call: KernelCall): tf.TensorInfo {
  const { tracer } = call;
  const indices = input(call, 'indices');
  const attrs = call.attrs as { depth: number; onValue: number; offValue: number; dtype?: string };
  const dtype = dtypeOf({ dtype: attrs.dtype ?? 'float32' });
  const classes = tracer.host({
    values: identityOrder(attrs.depth),
    shape: [attrs.depth],
    dtype: dtypeOf(indices),
  });
  const hot = tracer.elementwise('Equal', [reshape(call, indices, [...indices.shape, 1]), classes], 'bool');
  if (dtype === 'bool') return hot;
  const choice = [attrs.onValue, attrs.offValue].map((value) =>
    tracer.host({ values: [value], shape: [], dtype, splat: value }),
  );
  return tracer.elementwise('Where', [hot, ...choice], dtype);
}

/**
 * Non-maximum suppression padded to a fixed length: TensorFlow's other variants return as many boxes as they find, and
 * a traced tensor has a shape that is known before.
 */
function suppress(call: KernelCall): tf.TensorInfo[] {
  const { tracer, graph } = call;
  const boxes = input(call, 'boxes');
  const { maxOutputSize, iouThreshold, scoreThreshold, padToMaxOutputSize } = call.attrs as {
    maxOutputSize: number;
    iouThreshold: number;
    scoreThreshold: number;
    padToMaxOutputSize: boolean;
  };
  if (!padToMaxOutputSize) {
    throw new EngineError(
      'missing-kernel',
      'The number of boxes that non-maximum suppression finds is not known while tracing: call ' +
        'tf.image.nonMaxSuppressionPadded with padToMaxOutputSize = true.',
    );
  }
  const count = boxes.shape[0] ?? 0;
  const found = graph.add('NonMaxSuppression', [
    graph.add('Reshape', [tracer.name(boxes), graph.dimensions([1, count, 4])]),
    graph.add('Reshape', [tracer.name(input(call, 'scores')), graph.dimensions([1, 1, count])]),
    graph.scalar(maxOutputSize, 'int64'),
    graph.scalar(iouThreshold),
    graph.scalar(scoreThreshold),
  ]);
  const column = graph.add('Gather', [found, graph.scalar(2, 'int64')], { axis: 1 });
  const valid = graph.add(
    'Cast',
    [graph.add('Reshape', [graph.add('Shape', [column]), graph.integers([])])],
    { to: ONNX_TYPE.int32 },
  );
  const padded = graph.add(
    'Concat',
    [column, graph.constant(new BigInt64Array(maxOutputSize), [maxOutputSize])],
    {
      axis: 0,
    },
  );
  const selected = graph.add('Slice', [padded, graph.integers([0]), graph.integers([maxOutputSize])]);
  const indices = graph.add('Cast', [selected], { to: ONNX_TYPE.int32 });
  return [tracer.result(indices, [maxOutputSize], 'int32'), tracer.result(valid, [], 'int32')];
}

/** Picking and placing elements by index. */
export const indexing: readonly KernelDefinition[] = [
  kernel('GatherV2', 'Gather; GatherND with batch dimensions', gather),
  kernel('GatherNd', 'GatherND', gatherNd),
  kernel('ScatterNd', 'ScatterND', scatterNd),
  kernel('TensorScatterUpdate', 'ScatterND', (call) => {
    const { tracer, graph } = call;
    const tensor = input(call, 'tensor');
    const indices = longIndices(call, input(call, 'indices'));
    const name = graph.add('ScatterND', [tracer.name(tensor), indices, tracer.name(input(call, 'updates'))]);
    return tracer.result(name, tensor.shape, dtypeOf(tensor));
  }),
  kernel('UnsortedSegmentSum', 'ScatterND, Slice', segmentSum),
  kernel('TopK', 'TopK, Cast', topK),
  kernel('OneHot', 'Equal, Where', oneHot),
  kernel('NonMaxSuppressionV4', 'NonMaxSuppression, Concat, Slice', suppress),
];
