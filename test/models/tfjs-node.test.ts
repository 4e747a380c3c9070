import { expect } from 'chai';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { imageOf, type Frame, type StageResult } from '../../src/core/frame.js';
import type { BatchStage, FrameStage, PluginOf } from '../../src/core/plugin.js';
import { Engine } from '../../src/engine/index.js';
import { ThreadSession } from '../../src/engine/thread-session.js';
import { phantomFilm } from '../../src/imaging/phantom.js';
import { bundleSchema, type Bundle } from '../../src/models/bundle.js';
import { inputTensor } from '../../src/models/input-tensor.js';
import { TensorflowRuntime } from '../../src/models/tensorflow-runtime.js';
import anogan from '../../src/plugins/anogan.js';
import patchcore from '../../src/plugins/patchcore.js';
import resnet from '../../src/plugins/resnet.js';
import unet, { type Segmentation } from '../../src/plugins/unet.js';
import { makeFrame } from '../../src/testing.js';
import { withEngine } from '../support/bundles.js';

const MODELS = fileURLToPath(new URL('../../models/', import.meta.url));
const STAGES: Partial<Record<Bundle['kind'], PluginOf<'stage'>>> = { classifier: resnet, anogan, patchcore };

const shipped = readdirSync(MODELS, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }): [string, Bundle] => [
    name,
    bundleSchema.parse(JSON.parse(readFileSync(`${MODELS}${name}/bundle.json`, 'utf8'))),
  ]);

/** The numbers of a result, by their paths; `spread` and percentiles amplify differences of the scores. */
function numbersOf(result: StageResult | undefined): Record<string, number> {
  const { probabilities, anomalyScore, residualLoss, discriminationLoss } = { ...result } as Record<
    string,
    unknown
  >;
  const all = { ...(probabilities as object), anomalyScore, residualLoss, discriminationLoss };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => typeof value === 'number')) as Record<
    string,
    number
  >;
}

describe('`runtime: tensorflow` on native TensorFlow', () => {
  const engine = new Engine({ threads: () => 1 });
  before(function () {
    try {
      createRequire(import.meta.url).resolve('@tensorflow/tfjs-node');
    } catch {
      console.log('      skipped: @tensorflow/tfjs-node is not installed (bash scripts/tensorflow-node.sh)');
      this.skip();
    }
  });
  after(() => engine.dispose());

  const films = ({ input }: Bundle, count: number): Frame[] =>
    Array.from({ length: count }, (_, seed) => ({
      ...makeFrame({ name: `film-${String(seed)}.png`, width: input.width, height: input.height }),
      image: phantomFilm({ seed, size: input.width, opacities: seed % 3 }).image,
    }));

  for (const [name, bundle] of shipped) {
    const plugin = STAGES[bundle.kind];
    // The stage of a segmenter takes one film at a time: it has a test of its own.
    if (plugin === undefined) continue;
    const methods = bundle.kind === 'anogan' ? ['search', 'encoder', 'refine'] : [undefined];
    for (const method of methods) {
      it(`${name}${method === undefined ? '' : ` (${method})`} equals \`runtime: onnx\` at batches of 1, 3 and 16`, async () => {
        const open = async (runtime: string): Promise<BatchStage> => {
          const settings = plugin.options.parse({
            bundle: name,
            device: 'cpu',
            runtime,
            ...(method && { method }),
          });
          return (await plugin.create(settings, withEngine(engine, MODELS))) as BatchStage;
        };
        const [onnx, tensorflow] = [await open('onnx'), await open('tensorflow')];
        for (const count of [1, 3, 16]) {
          const frames = films(bundle, count);
          const expected = (await onnx.processBatch(frames)).map(({ results }) => numbersOf(results.model));
          const given = (await tensorflow.processBatch(frames)).map(({ results }) =>
            numbersOf(results.model),
          );
          expect(given).to.have.length(count);
          for (const [i, numbers] of expected.entries()) {
            expect(numbers).to.not.deep.equal({});
            for (const [key, value] of Object.entries(numbers)) {
              expect(given[i]?.[key], `${key} of film ${String(i)}`).to.be.closeTo(value, 1e-4);
            }
          }
        }
        await onnx.dispose?.();
        await tensorflow.dispose?.();
      }).timeout(300_000);
    }
  }

  it('chest-lungs equals `runtime: onnx` at batches of 1, 3 and 16, and so does its stage', async () => {
    const [name, bundle] = shipped.find(([, { kind }]) => kind === 'segmenter') as [string, Bundle];
    const bytes = readFileSync(`${MODELS}${name}/${String(bundle.files.model?.path)}`);
    const onnx = await ThreadSession.open(bytes);
    const tensorflow = await TensorflowRuntime.open(bundle.architecture, [bytes]);
    for (const count of [1, 3, 16]) {
      const images = inputTensor(films(bundle, count).map(imageOf), bundle.input);
      const { probabilities: expected } = await onnx.run({ images });
      const { probabilities: given } = await tensorflow.segment(images);
      const worst = (expected?.data as Float32Array).reduce(
        (most, value, i) => Math.max(most, Math.abs(value - Number(given?.data[i]))),
        0,
      );
      expect(given?.dims).to.deep.equal(expected?.dims);
      expect(worst).to.be.below(1e-4);
    }
    await onnx.dispose();
    await tensorflow.dispose();

    const settings = unet.options.parse({ bundle: name, runtime: 'tensorflow' });
    const stage = (await unet.create(settings, withEngine(engine, MODELS))) as FrameStage;
    const [film] = films(bundle, 1);
    const { results } = await stage.process(film as Frame);
    expect((results.model as unknown as Segmentation).areaFraction).to.be.within(0.05, 0.6);
    await stage.dispose?.();
  }).timeout(300_000);

  it('holds no more tensors after 200 films than before them', async () => {
    const [name, bundle] = shipped.find(([, { kind }]) => kind === 'patchcore') as [string, Bundle];
    const path = `${MODELS}${name}/${String(bundle.files.model?.path)}`;
    const network = await TensorflowRuntime.open(bundle.architecture, [readFileSync(path)]);
    try {
      const images = inputTensor(
        films(bundle, 20).flatMap(({ image }) => image ?? []),
        bundle.input,
      );
      await network.distances(images);
      const before = await network.tensorCount();
      for (let done = 0; done < 200; done += 20) await network.distances(images);
      expect(await network.tensorCount()).to.equal(before);
    } finally {
      await network.dispose();
    }
  }).timeout(300_000);
});
