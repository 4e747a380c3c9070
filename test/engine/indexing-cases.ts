import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { dim, fill, onShape, seed, shape, type KernelCases } from './kernel-cases.js';

/** Indices below `below` that repeat, made of the seed so that a traced function holds them as a constant. */
function someIndices(dims: number[], below: number, s: number): tf.Tensor {
  const values = fill(dims, s, (random) => Math.floor(random() * below)).data;
  return tf.tensor(Array.from(values, Number), dims, 'int32');
}

const paddings: fc.Arbitrary<[number, number][]> = fc.array(fc.tuple(dim(2, 0), dim(2, 0)), {
  minLength: 3,
  maxLength: 3,
});

const images: fc.Arbitrary<[number, number, number, number]> = fc.tuple(dim(3), dim(7, 2), dim(7, 2), dim(3));
const sizes = fc.tuple(dim(12), dim(12));

type Resize = (
  x: tf.Tensor4D,
  size: [number, number],
  alignCorners: boolean,
  halfPixelCenters: boolean,
) => tf.Tensor4D;

/** Forwards only: TensorFlow.js' gradient kernels get half-pixel centres and images that are not square wrong. */
function resizes(kernel: string, resize: Resize): KernelCases[] {
  const modes: [title: string, align: boolean, half: boolean][] = [
    ['asymmetric', false, false],
    ['aligned corners', true, false],
    ['half-pixel centres', false, true],
  ];
  return modes.map(([title, align, half]) => ({
    kernel,
    title,
    cases: fc.tuple(images, sizes, seed).map(([dims, size, s]) => ({
      fn: ({ x }) => resize(x as tf.Tensor4D, size, align, half),
      inputs: { x: fill(dims, s) },
      differentiable: [],
    })),
  }));
}

/** Calls of the kernels that pick, place, rearrange and resample. */
export const INDEXING_CASES: readonly KernelCases[] = [
  {
    kernel: 'GatherV2',
    title: 'along any axis, indices of any rank',
    cases: fc
      .tuple(shape(3), dim(2, 0), fc.array(dim(3), { maxLength: 2 }), seed)
      .map(([dims, axis, picked, s]) => ({
        fn: ({ x }) => tf.gather(x as tf.Tensor, someIndices(picked, dims[axis] ?? 1, s), axis),
        inputs: { x: fill(dims, s) },
        differentiable: ['x'],
      })),
  },
  {
    kernel: 'GatherV2',
    title: 'with a batch dimension',
    cases: fc.tuple(shape(4, 4), dim(3, 1), dim(3), seed).map(([dims, axis, count, s]) => ({
      fn: ({ x }) =>
        tf.gather(x as tf.Tensor, someIndices([dims[0] ?? 1, count], dims[axis] ?? 1, s), axis, 1),
      inputs: { x: fill(dims, s) },
      differentiable: ['x'],
    })),
  },
  {
    kernel: 'GatherNd',
    title: 'elements and rows',
    cases: fc.tuple(shape(3), dim(3), dim(4), seed).map(([dims, depth, count, s]) => ({
      fn: ({ x }) => tf.gatherND(x as tf.Tensor, someIndices([count, depth], Math.min(...dims), s)),
      inputs: { x: fill(dims, s) },
      differentiable: ['x'],
    })),
  },
  {
    kernel: 'ScatterNd',
    title: 'repeated indices add up',
    cases: fc.tuple(dim(4), dim(4), dim(6), seed).map(([rows, columns, count, s]) => ({
      fn: ({ x }) => tf.scatterND(someIndices([count, 1], rows, s), x as tf.Tensor, [rows, columns]),
      inputs: { x: fill([count, columns], s) },
      differentiable: ['x'],
    })),
  },
  {
    kernel: 'TensorScatterUpdate',
    title: 'rows',
    cases: seed.map((s) => ({
      fn: ({ x, rows }) =>
        tf.tensorScatterUpdate(x as tf.Tensor, tf.tensor2d([[3], [0]], [2, 1], 'int32'), rows as tf.Tensor),
      inputs: { x: fill([4, 3], s), rows: fill([2, 3], s + 1) },
      differentiable: [],
    })),
  },
  {
    kernel: 'UnsortedSegmentSum',
    title: 'repeated segments',
    cases: fc.tuple(dim(6), dim(4), dim(5), seed).map(([rows, columns, segments, s]) => ({
      fn: ({ x }) =>
        tf.unsortedSegmentSum(x as tf.Tensor, someIndices([rows], segments, s) as tf.Tensor1D, segments),
      inputs: { x: fill([rows, columns], s) },
      differentiable: ['x'],
    })),
  },
  {
    kernel: 'TopK',
    title: 'values and positions',
    cases: fc.tuple(shape(2, 4), dim(6, 3), dim(3), seed).map(([lead, size, k, s]) => ({
      fn: ({ x }) => {
        const { values, indices } = tf.topk(x as tf.Tensor, k);
        return [values, indices];
      },
      inputs: { x: fill([...lead, size], s) },
      differentiable: ['x'],
    })),
  },
  onShape('OneHot', 'classes', [3, 4], (x) => tf.oneHot(tf.argMax(x, 1), 4), false),
  {
    kernel: 'NonMaxSuppressionV4',
    title: 'padded to a fixed length',
    cases: fc.tuple(dim(12, 4), dim(8), seed).map(([count, most, s]) => ({
      fn: ({ corners, extents, scores }) => {
        const boxes = tf.concat(
          [corners as tf.Tensor2D, tf.add<tf.Tensor2D>(corners as tf.Tensor, extents as tf.Tensor)],
          1,
        );
        const found = tf.image.nonMaxSuppressionPadded(boxes, scores as tf.Tensor1D, most, 0.4, 0.2, true);
        return [found['selectedIndices'], found['validOutputs']] as tf.Tensor[];
      },
      inputs: {
        corners: fill([count, 2], s, (random) => random()),
        extents: fill([count, 2], s + 1, (random) => 0.2 + 0.5 * random()),
        scores: fill([count], s + 2, (random) => random()),
      },
      differentiable: [],
    })),
  },
  ...(['reflect', 'symmetric'] as const).map((mode) => ({
    kernel: 'MirrorPad',
    title: mode,
    cases: fc.tuple(shape(3, 4), paddings, seed).map(([dims, pads, s]) => ({
      fn: ({ x }: { x?: tf.Tensor }) => tf.mirrorPad(x as tf.Tensor, pads, mode),
      inputs: {
        x: fill(
          dims.map((size) => size + 2),
          s,
        ),
      },
      differentiable: ['x'],
    })),
  })),
  onShape('SpaceToBatchND', 'with padding', [2, 4, 5, 3], (x) =>
    tf.spaceToBatchND(
      x,
      [2, 3],
      [
        [1, 1],
        [0, 1],
      ],
    ),
  ),
  onShape('BatchToSpaceND', 'with crops', [12, 3, 2, 3], (x) =>
    tf.batchToSpaceND(
      x,
      [2, 3],
      [
        [1, 0],
        [0, 1],
      ],
    ),
  ),
  onShape(
    'DepthToSpace',
    'blocks of 2',
    [2, 3, 2, 12],
    (x) => tf.depthToSpace(x as tf.Tensor4D, 2, 'NHWC'),
    false,
  ),
  onShape('FlipLeftRight', 'images', [2, 3, 4, 2], (x) => tf.image.flipLeftRight(x as tf.Tensor4D), false),
  {
    kernel: 'Cumsum',
    title: 'along any axis, exclusive or not, either way',
    cases: fc
      .tuple(shape(3, 4), dim(2, 0), fc.boolean(), fc.boolean(), seed)
      .map(([dims, axis, exclusive, reverse, s]) => ({
        fn: ({ x }) => tf.cumsum(x as tf.Tensor, axis, exclusive, reverse),
        inputs: { x: fill(dims, s) },
        differentiable: ['x'],
      })),
  },
  {
    kernel: 'Einsum',
    title: 'a batch of products',
    cases: seed.map((s) => ({
      fn: ({ a, b }) => tf.einsum('bij,bjk->bik', a as tf.Tensor, b as tf.Tensor),
      inputs: { a: fill([2, 3, 4], s), b: fill([2, 4, 5], s + 1) },
      differentiable: [],
    })),
  },
  onShape('Range', 'beside a tensor', [5], (x) => tf.mul(x, tf.range(0, 5))),
  onShape('LinSpace', 'beside a tensor', [5], (x) => tf.mul(x, tf.linspace(0, 1, 5))),
  ...resizes('ResizeBilinear', tf.image.resizeBilinear),
  ...resizes('ResizeNearestNeighbor', tf.image.resizeNearestNeighbor),
  {
    kernel: 'Conv2D',
    title: 'dilated',
    cases: fc.tuple(dim(3), dim(3), seed).map(([kernel, dilation, s]) => ({
      fn: (inputs) =>
        tf.conv2d(inputs['x'] as tf.Tensor4D, inputs['w'] as tf.Tensor4D, 1, 'same', 'NHWC', dilation),
      inputs: { x: fill([2, 7, 8, 3], s), w: fill([kernel, kernel, 3, 4], s + 1) },
      differentiable: [],
    })),
  },
  {
    kernel: 'Conv2D',
    title: 'channels first',
    cases: fc.tuple(dim(3), dim(2), seed).map(([kernel, stride, s]) => ({
      fn: (inputs) =>
        tf.conv2d(inputs['x'] as tf.Tensor4D, inputs['w'] as tf.Tensor4D, stride, 'valid', 'NCHW'),
      inputs: { x: fill([2, 3, 6, 7], s), w: fill([kernel, kernel, 3, 4], s + 1) },
      differentiable: [],
    })),
  },
  ...(['floor', 'ceil', 'round'] as const).map((rounding) => ({
    kernel: 'MaxPool',
    title: `sizes rounded: ${rounding}`,
    cases: fc.tuple(dim(9, 4), dim(4, 3), dim(2), seed).map(([side, size, stride, s]) => ({
      fn: ({ x }: { x?: tf.Tensor }) => tf.maxPool(x as tf.Tensor4D, size, stride, 1, rounding),
      inputs: { x: fill([2, side, side, 3], s) },
      differentiable: ['x'],
    })),
  })),
];
