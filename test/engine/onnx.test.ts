import { expect } from 'chai';
import onnxProto from 'onnx-proto';
import { EngineError, readInitializers, readOnnx } from '../../src/engine/index.js';
import {
  dcganDiscriminatorStep,
  dcganGeneratorStep,
  exportAnogan,
  exportResnet,
  initDcgan,
  initResnet,
  resnetTrainStep,
} from '../../src/models/index.js';
import { checkOnnx } from './onnx-checker.js';
import { useCpuBackend } from './support.js';

const resnet = { depth: 18, width: 4, inputSize: 32, classes: 3 } as const;
const dcgan = { width: 4, zDim: 8 };

/** One file of every kind that the models write. */
function files(): Record<string, Uint8Array> {
  return {
    resnet: exportResnet(initResnet(resnet, 1), resnet).bytes,
    resnetStep: resnetTrainStep(resnet, { batchSize: 2, optimizer: { kind: 'adam' } }).bytes,
    discriminatorStep: dcganDiscriminatorStep(dcgan, { batchSize: 2 }).bytes,
    generatorStep: dcganGeneratorStep(dcgan, { batchSize: 2 }).bytes,
    ...exportAnogan(initDcgan(dcgan, 1), dcgan),
  };
}

describe('ONNX files', () => {
  before(useCpuBackend);

  it('pass onnx.checker with shape inference', async function () {
    await checkOnnx(this, files());
  }).timeout(60_000);

  it('are read by an independent decoder as they were written', () => {
    const model = onnxProto.onnx.ModelProto.decode(files()['resnet'] ?? new Uint8Array());
    expect(Number(model.irVersion)).to.equal(8);
    expect(model.opsetImport.map(({ domain, version }) => [domain, Number(version)])).to.deep.equal([
      ['', 17],
    ]);
    expect(model.graph?.input?.map(({ name }) => name)).to.deep.equal(['images']);
    expect(model.graph?.output?.map(({ name }) => name)).to.deep.equal(['logits', 'probabilities']);
  });

  it('give their weights back exactly', () => {
    const parameters = initResnet(resnet, 1);
    const { bytes } = exportResnet(parameters, resnet);
    for (const read of [readInitializers(bytes), readInitializers(Buffer.from(bytes))]) {
      for (const [name, tensor] of Object.entries(parameters)) expect(read[name], name).to.deep.equal(tensor);
    }
  });

  it('are refused, not half read, when damaged', () => {
    const bytes = files()['resnet'] ?? new Uint8Array();
    for (const damaged of [bytes.slice(0, 1000), bytes.slice(10), new Uint8Array(0), Buffer.from('PNG')]) {
      expect(() => readOnnx(damaged))
        .to.throw(EngineError)
        .with.property('code', 'bad-model');
    }
  });
});
