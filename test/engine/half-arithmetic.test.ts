import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { readFile } from 'node:fs/promises';
import onnxProto from 'onnx-proto';
import { Engine, traceToOnnx } from '../../src/engine/index.js';
import { halfArithmetic } from '../../src/engine/half-arithmetic.js';
import { fill } from './kernel-cases.js';

const FLOAT = 1;
const shipped = (path: string): Promise<Buffer> => readFile(new URL(`../../models/${path}`, import.meta.url));

describe('arithmetic in half precision', () => {
  let engine: Engine;
  before(() => (engine = new Engine()));
  after(() => engine.dispose());

  /** The largest difference from single precision, relative to the largest value; the CPU rounds to half where it has no kernel. */
  async function difference(bytes: Uint8Array, dims: readonly number[]): Promise<number> {
    return Math.max(...Object.values(await differences(bytes, dims)));
  }

  /** The same of each output. */
  async function differences(bytes: Uint8Array, dims: readonly number[]): Promise<Record<string, number>> {
    const single = await engine.load(bytes, { device: 'cpu' });
    const half = await engine.load(halfArithmetic(bytes), { device: 'cpu' });
    expect(half.inputs).to.deep.equal(single.inputs);
    expect(half.outputs.map(({ name, dtype }) => [name, dtype])).to.deep.equal(
      single.outputs.map(({ name, dtype }) => [name, dtype]),
    );
    const [input] = single.inputs;
    const feeds = { [input?.name ?? '']: fill(dims, 1) };
    const [whole, rounded] = [await single.run(feeds), await half.run(feeds)];
    return Object.fromEntries(
      Object.entries(whole).map(([name, { data }]) => {
        const values = Array.from(data, Number);
        const errors = values.map((value, i) => Math.abs(value - Number(rounded[name]?.data[i])));
        return [name, Math.max(...errors) / Math.max(...values.map(Math.abs))];
      }),
    );
  }

  // The input is noise. On 96 films, the classifier's logits differ by 2.4e-3, its probabilities by 2.2e-3.
  for (const [path, dims, bounds] of [
    ['chest-resnet/model.onnx', [2, 128, 128, 1], { logits: 2e-2, probabilities: 5e-3 }],
    ['chest-anogan/features.onnx', [2, 64, 64, 1], {}],
    ['chest-patchcore/model.onnx', [2, 64, 64, 1], {}],
  ] as const) {
    it(`changes ${path} by rounding alone`, async () => {
      const limits: Readonly<Record<string, number>> = bounds;
      for (const [name, value] of Object.entries(await differences(await shipped(path), dims)))
        expect(value, name).to.be.within(1e-7, limits[name] ?? 1e-3);
    }).timeout(60_000);
  }

  it('keeps the scales of a resize, and an output that is used inside', async () => {
    const { bytes } = traceToOnnx(
      ({ x }) => {
        const y = tf.relu(tf.image.resizeBilinear(x as tf.Tensor4D, [7, 9]));
        return { y, mean: tf.mean(tf.add(y, 0.1)) };
      },
      { x: { shape: [2, 4, 6, 3] } },
    );
    expect(await difference(bytes, [2, 4, 6, 3])).to.be.within(1e-7, 1e-3);
  });

  it('leaves no weight in single precision', async () => {
    const { graph } = onnxProto.onnx.ModelProto.decode(
      halfArithmetic(await shipped('chest-resnet/model.onnx')),
    );
    expect(graph?.initializer?.filter(({ dataType }) => dataType === FLOAT)).to.deep.equal([]);
  });

  it('refuses a model with a loop', async () => {
    const search = await shipped('chest-anogan/search.onnx');
    expect(() => halfArithmetic(search)).to.throw(
      'Loop, an operator with a sub-graph, cannot run in half precision',
    );
  });

  it('is for a GPU: the CPU calculates in single precision', async () => {
    const bytes = await shipped('chest-anogan/features.onnx');
    const feeds = { images: fill([1, 64, 64, 1], 1) };
    const [plain, asked] = await Promise.all(
      (['single', 'half'] as const).map(async (precision) =>
        (await engine.load(bytes, { device: 'cpu', precision })).run(feeds),
      ),
    );
    expect(asked).to.deep.equal(plain);
  });
});
