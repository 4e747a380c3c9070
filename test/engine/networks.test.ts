import * as tf from '@tensorflow/tfjs-core';
import {
  Engine,
  traceToOnnx,
  type HostTensors,
  type TensorMap,
  type TraceableFunction,
} from '../../src/engine/index.js';
import { fill } from './kernel-cases.js';
import { expectClose, rows, toHost, toTensors, useCpuBackend } from './support.js';

const conv = (x: tf.Tensor, filter: tf.Tensor | undefined, stride = 1): tf.Tensor4D =>
  tf.conv2d(x as tf.Tensor4D, filter as tf.Tensor4D, stride, 'same');

/** Two levels, joined by pooling, both ways of growing back, and skip connections. */
const unet: TraceableFunction = ({ x }, { down, deep, up, out, alpha }) => {
  const level = tf.prelu(conv(x as tf.Tensor, down), alpha as tf.Tensor4D);
  const bottom = tf.selu(conv(tf.avgPool(level, 2, 2, 'same'), deep));
  const [n, height, width] = level.shape;
  const grown = tf.conv2dTranspose(bottom, up as tf.Tensor4D, [n, height, width, 4], 2, 'same');
  const resized = tf.image.resizeBilinear(bottom, [height, width], false, true);
  return { mask: tf.sigmoid(conv(tf.concat([level, grown, resized], 3), out)) };
};

/** A pyramid of two levels, separable heads, mirrored borders, and the best anchors of each image. */
const retina: TraceableFunction = ({ x }, { stem, lateral, depth, point, head }) => {
  const border: [number, number] = [1, 1];
  const framed = tf.mirrorPad(x as tf.Tensor, [[0, 0], border, border, [0, 0]], 'reflect');
  const fine = tf.relu6(conv(framed, stem, 2));
  const coarse = conv(tf.maxPool(fine, 3, 2, 'same'), lateral);
  const [, height, width] = fine.shape;
  const merged = tf.add(fine, tf.image.resizeNearestNeighbor(coarse, [height, width]));
  const features = tf.separableConv2d(
    merged as tf.Tensor4D,
    depth as tf.Tensor4D,
    point as tf.Tensor4D,
    1,
    'same',
  );
  const scores = tf.reshape(conv(tf.leakyRelu(features, 0.1), head), [-1, height * width * 2]);
  return { scores, best: tf.topk(tf.sigmoid(scores), 5).values };
};

const networks: [title: string, network: TraceableFunction, variables: HostTensors, output: string][] = [
  [
    'a U-Net',
    unet,
    {
      down: fill([3, 3, 2, 4], 1),
      deep: fill([3, 3, 4, 6], 2),
      up: fill([3, 3, 4, 6], 3),
      out: fill([1, 1, 14, 1], 4),
      alpha: fill([4], 5),
    },
    'mask',
  ],
  [
    'a RetinaNet',
    retina,
    {
      stem: fill([3, 3, 2, 4], 1),
      lateral: fill([3, 3, 4, 4], 2),
      depth: fill([3, 3, 4, 2], 3),
      point: fill([1, 1, 8, 4], 4),
      head: fill([1, 1, 4, 2], 5),
    },
    'scores',
  ],
];

describe('networks', () => {
  let engine: Engine;

  before(async () => {
    await useCpuBackend();
    engine = new Engine();
  });

  after(() => engine.dispose());

  for (const [title, network, variables, output] of networks) {
    it(`${title} with a symbolic batch equals TensorFlow.js, and a batch equals its images one by one`, async () => {
      const { bytes } = traceToOnnx(
        network,
        { x: { shape: [1, 9, 10, 2] } },
        { variables, freeze: true, batch: 'symbolic' },
      );
      const session = await engine.load(bytes, { device: 'cpu', threads: 1 });
      const images = fill([3, 9, 10, 2], 7);
      const all = await session.run({ x: images });
      expectClose(all, toHost(network(toTensors({ x: images }), toTensors(variables))));
      for (let row = 0; row < 3; row++) {
        const expected = Object.fromEntries(
          Object.entries(all).map(([name, tensor]) => [name, rows(tensor, row, row + 1)]),
        );
        expectClose(await session.run({ x: rows(images, row, row + 1) }), expected, 1e-5);
      }
      await session.dispose();
    });

    it(`${title}: the gradients by all its parameters are the difference quotients`, async () => {
      const names = Object.keys(variables);
      const step = 2e-3;
      const along = Object.fromEntries(
        names.map((name, index) => [name, fill(variables[name]?.dims ?? [], 30 + index)]),
      );
      const slopes: TraceableFunction = (inputs, parameters) => {
        const loss = (given: TensorMap): tf.Scalar =>
          tf.mean(tf.sigmoid(network(inputs, given)[output] as tf.Tensor));
        const moved = (distance: number): TensorMap =>
          Object.fromEntries(
            names.map((name) => [
              name,
              tf.add(parameters[name] as tf.Tensor, tf.mul(inputs[`along/${name}`] as tf.Tensor, distance)),
            ]),
          );
        const gradients = tf.grads((...values: tf.Tensor[]) =>
          loss(Object.fromEntries(names.map((name, index) => [name, values[index] as tf.Tensor]))),
        )(names.map((name) => parameters[name] as tf.Tensor));
        const products = gradients.map((gradient, index) =>
          tf.sum(tf.mul(gradient, inputs[`along/${names[index] ?? ''}`] as tf.Tensor)),
        );
        const quotient = tf.div(tf.sub(loss(moved(step)), loss(moved(-step))), 2 * step);
        return { slope: tf.addN(products), quotient };
      };
      const shapes = Object.fromEntries(
        names.map((name) => [`along/${name}`, { shape: along[name]?.dims ?? [] }]),
      );
      const { bytes } = traceToOnnx(
        slopes,
        { x: { shape: [2, 9, 10, 2] }, ...shapes },
        { variables, freeze: true },
      );
      const session = await engine.load(bytes, { device: 'cpu', threads: 1 });
      const feeds = Object.fromEntries(names.map((name) => [`along/${name}`, along[name] ?? fill([], 1)]));
      const { slope, quotient } = await session.run({ x: fill([2, 9, 10, 2], 7), ...feeds });
      await session.dispose();
      expectClose({ slope: slope ?? fill([], 1) }, { slope: quotient ?? fill([], 2) }, 2e-2);
    });
  }
});
