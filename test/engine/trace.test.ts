import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import {
  Engine,
  EngineError,
  readInitializers,
  traceToOnnx,
  type HostTensors,
  type InputSpec,
  type TensorMap,
  type TraceableFunction,
  type TraceOptions,
} from '../../src/engine/index.js';
import { traceToGraph } from '../../src/engine/trace.js';
import { fill } from './kernel-cases.js';
import { expectClose, numbers, relativeError, rows, useCpuBackend } from './support.js';

/** The error code and message of a trace that must fail. */
function failure(
  fn: TraceableFunction,
  inputs: Record<string, InputSpec>,
  options?: TraceOptions,
): EngineError {
  try {
    traceToOnnx(fn, inputs, options);
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
  throw new Error('Expected the trace to fail.');
}

const unknownOp: TraceableFunction = (inputs) => ({
  y: tf.engine().runKernel('Frobnicate', { x: x(inputs) }),
});

const batchOf = (inputs: TensorMap): number => x(inputs).size / 3;
const x = (inputs: TensorMap): tf.Tensor => inputs['x'] as tf.Tensor;

describe('traceToOnnx', () => {
  let engine: Engine;

  before(async () => {
    await useCpuBackend();
    engine = new Engine();
  });

  after(() => engine.dispose());

  describe('refuses', () => {
    it('an op without a kernel, naming it and what to use instead', () => {
      const error = failure(unknownOp, { x: { shape: [3] } });
      expect(error.code).to.equal('missing-kernel');
      expect(error.message)
        .to.match(/"Frobnicate"/)
        .and.to.match(/docs\/engine\.md/);
    });

    it('reading the elements of a traced tensor, and says why', () => {
      const error = failure((inputs) => ({ y: tf.scalar(x(inputs).dataSync()[0] ?? 0) }), {
        x: { shape: [3] },
      });
      expect(error.code).to.equal('symbolic-read');
      expect(error.message).to.match(/tf\.where/);
    });

    for (const [name, draw] of [
      ['randomNormal', () => tf.randomNormal([3])],
      ['randomUniform', () => tf.randomUniform([3], 0, 1, 'float32', 7)],
      ['truncatedNormal', () => tf.truncatedNormal([3])],
      ['dropout', () => tf.dropout(tf.ones([3]), 0.5)],
    ] as const) {
      it(`tf.${name}, which would be frozen`, () => {
        const error = failure((inputs) => ({ y: tf.add(x(inputs), draw()) }), { x: { shape: [3] } });
        expect(error.code).to.equal('random-in-trace');
      });
    }

    it('an output with the name of an input', () => {
      const error = failure((inputs) => ({ x: tf.relu(x(inputs)) }), { x: { shape: [3] } });
      expect(error.code).to.equal('trace-failed');
      expect(error.message).to.match(/"x"/);
    });

    it('a type that ONNX Runtime would need another kernel for', () => {
      const error = failure((inputs) => ({ y: tf.complex(x(inputs), x(inputs)) }), { x: { shape: [3] } });
      expect(error.code).to.be.oneOf(['trace-failed', 'missing-kernel']);
    });

    const symbolic: TraceOptions = { batch: 'symbolic' };
    const frozen: [string, TraceableFunction][] = [
      ['a mean over the batch', (inputs) => ({ y: tf.mean(tf.mul(x(inputs), batchOf(inputs))) })],
      [
        'the gradient of a mean over the batch',
        (inputs) => ({ y: tf.grad((v) => tf.mean(tf.square(v)))(x(inputs)) }),
      ],
      [
        'a table as long as the batch',
        (inputs) => ({
          y: tf.add(
            x(inputs),
            tf.tensor(fill([batchOf(inputs), 1], 1).data as Float32Array, [batchOf(inputs), 1]),
          ),
        }),
      ],
      ['a loop over the batch', (inputs) => ({ y: tf.addN(tf.unstack(x(inputs))) })],
    ];
    for (const [title, fn] of frozen) {
      it(`to freeze a symbolic batch: ${title}`, () => {
        expect(failure(fn, { x: { shape: [1, 3] } }, symbolic).code).to.equal('frozen-batch');
      });
    }
  });

  it('leaves TensorFlow.js on the backend it found, also after an error', () => {
    failure(unknownOp, { x: { shape: [3] } });
    expect(tf.getBackend()).to.equal('cpu');
    traceToOnnx((inputs) => ({ y: tf.relu(x(inputs)) }), { x: { shape: [3] } });
    expect(tf.getBackend()).to.equal('cpu');
  });

  it('writes equal bytes for equal functions', () => {
    const trace = (): Uint8Array =>
      traceToOnnx((inputs) => ({ y: tf.softmax(tf.mul(x(inputs), 3)) }), { x: { shape: [2, 3] } }).bytes;
    expect(Buffer.from(trace()).equals(Buffer.from(trace()))).to.equal(true);
  });

  it('takes tensors of another backend in as constants', async () => {
    const offset = tf.tensor1d([1, 2, 3]);
    const { bytes } = traceToOnnx((inputs) => ({ y: tf.add(x(inputs), offset) }), { x: { shape: [3] } });
    const session = await engine.load(bytes, { device: 'cpu' });
    const { y } = await session.run({ x: { data: Float32Array.of(1, 1, 1), dims: [3] } });
    expect(numbers(y)).to.deep.equal([2, 3, 4]);
    await session.dispose();
  });

  it('gives frozen variables back in their own order', () => {
    const variables: HostTensors = { 'layer/kernel': fill([3, 2, 4, 5], 1), bias: fill([5], 2) };
    const { bytes } = traceToOnnx(
      (inputs, { 'layer/kernel': kernel, bias }) => ({
        y: tf.add(tf.conv2d(x(inputs) as tf.Tensor4D, kernel as tf.Tensor4D, 1, 'same'), bias as tf.Tensor),
      }),
      { x: { shape: [1, 6, 6, 4] } },
      { variables, freeze: true },
    );
    const read = readInitializers(bytes);
    for (const [name, tensor] of Object.entries(variables)) expect(read[name]).to.deep.equal(tensor);
  });

  it('drops what reaches no output', () => {
    const { bytes } = traceToOnnx(
      (inputs, { unused }) => {
        tf.exp(unused as tf.Tensor);
        return { y: tf.relu(x(inputs)) };
      },
      { x: { shape: [3] } },
      { variables: { unused: fill([1000], 1) }, freeze: true },
    );
    expect(bytes.length).to.be.below(600);
  });

  describe('with a symbolic batch', () => {
    const network: TraceableFunction = (inputs, { kernel, dense }) => {
      const features = (images: tf.Tensor): tf.Tensor4D =>
        tf.relu(tf.conv2d(images as tf.Tensor4D, kernel as tf.Tensor4D, 2, 'same'));
      const pooled = (images: tf.Tensor): tf.Tensor => tf.mean(features(images), [1, 2]);
      const perSample = (images: tf.Tensor): tf.Tensor =>
        tf.sum(tf.square(tf.matMul(pooled(images), dense as tf.Tensor)), 1);
      return {
        logits: tf.matMul(pooled(x(inputs)), dense as tf.Tensor),
        flat: tf.reshape(features(x(inputs)), [-1, 4 * 4 * 3]),
        ones: tf.ones(features(x(inputs)).shape),
        gradient: tf.grad((images) => tf.sum(perSample(images)))(x(inputs)),
      };
    };
    const variables: HostTensors = { kernel: fill([3, 3, 2, 3], 3), dense: fill([3, 4], 4) };

    it('gives for a batch of n what it gives for n singles, gradients too', async () => {
      const model = traceToOnnx(
        network,
        { x: { shape: [1, 8, 8, 2] } },
        { variables, freeze: true, batch: 'symbolic' },
      );
      expect(model.inputs).to.deep.equal([{ name: 'x', dtype: 'float32', dims: ['N', 8, 8, 2] }]);
      const session = await engine.load(model.bytes, { device: 'cpu' });
      const images = fill([5, 8, 8, 2], 9);
      const all = await session.run({ x: images });
      for (let row = 0; row < 5; row++) {
        const single = await session.run({ x: rows(images, row, row + 1) });
        const expected = Object.fromEntries(
          Object.entries(all).map(([name, tensor]) => [name, rows(tensor, row, row + 1)]),
        );
        expectClose(single, expected, 1e-5);
      }
      await session.dispose();
    });

    it('keeps the batch by its name through a reshape, so that ONNX Runtime can reuse buffers behind it', () => {
      const grey: TraceableFunction = (inputs, { kernel }) => {
        const images = tf.div<tf.Tensor4D>(tf.sub(x(inputs), 0.5), 0.25);
        const maps = tf.conv2d(images, kernel as tf.Tensor4D, 1, 'same');
        return { flat: tf.reshape(maps, [-1, 4 * 4 * 2]), rows: tf.reshape(maps, [-1, 2]) };
      };
      const graph = traceToGraph(
        grey,
        { x: { shape: [1, 4, 4, 1] } },
        { variables: { kernel: fill([3, 3, 1, 2], 3) }, freeze: true, batch: 'symbolic' },
      );
      const reshapes = graph.nodes.filter(({ type }) => type === 'Reshape');
      const dims = reshapes.map(({ inputs }) =>
        Array.from(graph.initializers.get(inputs[1] ?? '')?.data ?? [], Number),
      );
      expect(dims).to.deep.equal([
        [0, 16],
        [0, 4, 4, 1],
        [0, 1, 4, 4],
        [0, 32],
        [-1, 2],
      ]);
    });

    it('equals a trace at that batch size', async () => {
      const sized = traceToOnnx(network, { x: { shape: [3, 8, 8, 2] } }, { variables, freeze: true });
      const symbolic = traceToOnnx(
        network,
        { x: { shape: [1, 8, 8, 2] } },
        { variables, freeze: true, batch: 'symbolic' },
      );
      const feeds = { x: fill([3, 8, 8, 2], 5) };
      const [a, b] = await Promise.all(
        [sized, symbolic].map(async ({ bytes }) => (await engine.load(bytes, { device: 'cpu' })).run(feeds)),
      );
      expectClose(b ?? {}, a ?? {}, 1e-6);
    });
  });

  it('keeps a lazily broadcast value right when a later op needs it in full', async () => {
    const { bytes } = traceToOnnx(
      (inputs) => {
        const wide = tf.tile(tf.reshape(x(inputs), [1, 1, 3]), [2, 4, 1]);
        return { sum: tf.sum(wide), product: tf.matMul(wide, tf.transpose(wide, [0, 2, 1])), wide };
      },
      { x: { shape: [3] } },
    );
    const session = await engine.load(bytes, { device: 'cpu' });
    const { sum, product, wide } = await session.run({ x: { data: Float32Array.of(1, 2, 3), dims: [3] } });
    expect(Number(sum?.data[0])).to.equal(48);
    expect(product?.dims).to.deep.equal([2, 4, 4]);
    expect(wide?.dims).to.deep.equal([2, 4, 3]);
    expect(relativeError(numbers(product), new Array<number>(32).fill(14))).to.be.below(1e-6);
    await session.dispose();
  });
});
