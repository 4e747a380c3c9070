import { expect } from 'chai';
import { readFile } from 'node:fs/promises';
import onnxProto from 'onnx-proto';
import { Engine, type HostTensors } from '../../src/engine/index.js';
import { singleWeights } from '../../src/engine/single-weights.js';
import { fill } from './kernel-cases.js';

const { ModelProto, TensorProto } = onnxProto.onnx;
const shipped = (path: string): Promise<Buffer> => readFile(new URL(`../../models/${path}`, import.meta.url));

/** How many initializers of the main graph are stored in half precision. */
function halves(bytes: Uint8Array): number {
  const initializers = ModelProto.decode(bytes).graph?.initializer ?? [];
  return initializers.filter(({ dataType }) => dataType === TensorProto.DataType.FLOAT16).length;
}

describe('weights in single precision', () => {
  for (const [path, dims] of [
    ['chest-resnet/model.onnx', [2, 128, 128, 1]],
    ['chest-anogan/encoder.onnx', [2, 64, 64, 1]],
  ] as const) {
    it(`change no result of ${path}`, async () => {
      const bytes = await shipped(path);
      const single = singleWeights(bytes);
      expect(halves(bytes)).to.be.at.least(5);
      expect(halves(single)).to.equal(0);
      const engine = new Engine();
      try {
        const results: HostTensors[] = [];
        for (const model of [bytes, single]) {
          const session = await engine.load(model, { device: 'cpu' });
          results.push(await session.run({ [session.inputs[0]?.name ?? '']: fill(dims, 1) }));
        }
        expect(results[1]).to.deep.equal(results[0]);
      } finally {
        await engine.dispose();
      }
    }).timeout(60_000);
  }

  it('reaches those of a loop', async () => {
    const bytes = await shipped('chest-anogan/search.onnx');
    expect(halves(bytes)).to.be.at.least(5);
    expect(halves(singleWeights(bytes))).to.equal(0);
  });
});
