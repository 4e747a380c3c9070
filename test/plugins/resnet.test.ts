import { expect } from 'chai';
import * as tf from '@tensorflow/tfjs-core';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parsePipeline } from '../../src/core/config/load.js';
import { RxrayError } from '../../src/core/errors.js';
import type { Classification, Frame, Image } from '../../src/core/frame.js';
import type { BatchStage, LintContext, LintMessage } from '../../src/core/plugin.js';
import { Engine, traceToOnnx } from '../../src/engine/index.js';
import { builtInRegistry } from '../../src/host/builtins.js';
import { writeBundle } from '../../src/training/write-bundle.js';
import resnet, { classify, softmax } from '../../src/plugins/resnet.js';
import { makeFrame, stageContract } from '../../src/testing.js';
import { bundleOf, toyAnogan, toyClassifier, toySegmenter, withEngine } from '../support/bundles.js';
import { tinyModel } from '../support/onnx-models.js';
import { tensorflowOnCpu } from '../support/tensorflow-on-cpu.js';

describe('resnet', () => {
  let engine: Engine;
  let dir: string;
  before(async () => {
    engine = new Engine({ threads: () => 1 });
    dir = await mkdtemp(join(tmpdir(), 'rxray-resnet-'));
    await toyClassifier(join(dir, 'toy'));
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  const film = (index: number, other: Parameters<typeof makeFrame>[0] = {}): Frame =>
    makeFrame({ name: `film-${index}.png`, seed: index, width: 32, height: 32, ...other });

  async function open(settings: Record<string, unknown> = {}): Promise<BatchStage> {
    const options = resnet.options.parse({
      bundle: 'toy',
      device: 'cpu',
      ...settings,
    });
    return (await resnet.create(options, withEngine(engine, dir))) as BatchStage;
  }

  const resultOf = (frame: Frame | undefined): Classification => frame?.results.model as Classification;

  async function refused(promise: Promise<unknown>): Promise<RxrayError> {
    const error = await promise.then(
      () => expect.fail('it was accepted'),
      (e: unknown) => e,
    );
    expect(error).to.be.instanceOf(RxrayError);
    return error as RxrayError;
  }

  stageContract('resnet', () => ({
    plugin: resnet,
    with: { bundle: join(dir, 'toy'), device: 'cpu' },
    services: withEngine(engine, dir),
    frame: (index) => film(index),
    tolerance: 1e-5,
  }));

  it('gives each film a label, all probabilities and the best labels first', async () => {
    const stage = await open({ topK: 2 });
    const [frame] = await stage.processBatch([film(0)]);
    const { kind, label, probability, probabilities, topK } = resultOf(frame);
    expect(kind).to.equal('classification');
    expect(Object.keys(probabilities)).to.deep.equal(['bacterial', 'normal', 'viral']);
    expect(Object.values(probabilities).reduce((a, b) => a + b)).to.be.closeTo(1, 1e-6);
    expect(probability).to.equal(Math.max(...Object.values(probabilities)));
    expect(topK).to.have.length(2);
    expect(topK[0]).to.deep.equal({ label, probability });
    expect(stage.columns?.map((column) => column.name)).to.deep.equal([
      'label',
      'probability',
      ...['score', 'threshold', 'abnormal', 'suspicion'],
      'p.bacterial',
      'p.normal',
      'p.viral',
    ]);
    await stage.dispose?.();
  });

  it('sees 8 and 16 bit alike, and colour by its luma', async () => {
    const stage = await open();
    const eight = film(3).image as Image;
    const sixteen = { ...eight, data: Uint16Array.from(eight.data, (v) => v * 257) };
    const colour = {
      ...eight,
      channels: 3 as const,
      data: Uint8Array.from({ length: 3 * 1024 }, (_, i) => eight.data[Math.floor(i / 3)] ?? 0),
    };
    const results = [];
    for (const image of [eight, sixteen, colour]) {
      const [frame] = await stage.processBatch([film(3, { image })]);
      results.push(resultOf(frame).probabilities.viral ?? NaN);
    }
    expect(results[1]).to.be.closeTo(results[0] ?? NaN, 1e-5);
    expect(results[2]).to.be.closeTo(results[0] ?? NaN, 1e-4);
  });

  it('runs a foreign classifier: N × C × H × W, three channels, mean and std, logits of any name', async () => {
    // Its logits are the means of the channels as the network sees them.
    const { bytes } = traceToOnnx(
      ({ pixels }) => ({ scores: tf.mean(pixels as tf.Tensor4D, [2, 3]) }),
      { pixels: { shape: [1, 3, 4, 6] } },
      { batch: 'symbolic' },
    );
    const bundle = bundleOf({
      kind: 'classifier',
      input: {
        width: 6,
        height: 4,
        channels: 3,
        layout: 'NCHW',
        mean: [0.5, 0.4, 0.3],
        std: [0.5, 0.25, 0.2],
      },
      labels: ['red', 'green', 'blue'],
    });
    await writeBundle(join(dir, 'foreign'), bundle, { model: bytes }, '');
    const stage = await open({ bundle: 'foreign' });
    const colour = Uint8Array.from({ length: 4 * 6 * 3 }, (_, i) => [255, 102, 51][i % 3] ?? 0);
    const grey = new Uint8Array(4 * 6).fill(51);
    const [first, second] = await stage.processBatch([
      film(0, { image: { width: 6, height: 4, channels: 3, data: colour } }),
      film(1, { image: { width: 6, height: 4, channels: 1, data: grey } }),
    ]);
    const close = (frame: Frame | undefined, logits: number[]): void => {
      Object.values(resultOf(frame).probabilities).forEach((value, i) => {
        expect(value).to.be.closeTo(softmax(logits)[i] ?? NaN, 1e-5);
      });
    };
    close(first, [(1 - 0.5) / 0.5, 0, (0.2 - 0.3) / 0.2]);
    close(second, [(0.2 - 0.5) / 0.5, (0.2 - 0.4) / 0.25, (0.2 - 0.3) / 0.2]);
  });

  describe('refuses an unusable answer:', () => {
    const bundle = (labels: string[], other = {}) =>
      bundleOf({
        kind: 'classifier',
        input: { width: 32, height: 32, channels: 1, layout: 'NCHW', mean: [0], std: [1] },
        labels,
        ...other,
      });
    const blank = (index: number): Frame => {
      const image = { width: 32, height: 32, channels: 1, data: new Uint8Array(1024) } as const;
      return film(index, { image });
    };

    it('a film without a finite number fails, with the reason, and the others do not', async () => {
      const { bytes } = tinyModel({ weights: [1, -1], minMax: true });
      await writeBundle(join(dir, 'min-max'), bundle(['a', 'b']), { model: bytes }, '');
      const stage = await open({ bundle: 'min-max' });
      const error = await refused(stage.processBatch([film(0), blank(1)]));
      expect(error).to.include({ code: 'FRAME_STAGE', component: 'model' });
      expect(error.message).to.include('failed on this film: it returned NaN');
      expect(resultOf((await stage.processBatch([film(0)]))[0]).probability).to.be.within(0, 1);
    });

    it('one row for several films is refused for all of them', async () => {
      const { bytes } = traceToOnnx(
        ({ pixels }) => ({ scores: tf.mean(tf.mean(pixels as tf.Tensor4D, [1, 2]), [0], true) }),
        { pixels: { shape: [1, 32, 32, 1] } },
        { batch: 'symbolic' },
      );
      const input = { width: 32, height: 32, channels: 1, layout: 'NHWC', mean: [0], std: [1] };
      await writeBundle(join(dir, 'mixing'), bundle(['a'], { input }), { model: bytes }, '');
      const stage = await open({ bundle: 'mixing' });
      expect((await refused(stage.processBatch([film(0), film(1)]))).message).to.include(
        '1 rows for 2 films',
      );
      await stage.processBatch([film(0)]);
    });

    it('a number that is not a probability, although the bundle says so', async () => {
      const { bytes } = tinyModel({ weights: [9, -9] });
      const about = bundle(['a', 'b'], { activation: 'none' });
      await writeBundle(join(dir, 'wide'), about, { model: bytes }, '');
      const stage = await open({ bundle: 'wide' });
      expect((await refused(stage.processBatch([film(0)]))).message).to.include('which is not a probability');
    });
  });

  it('gives findings that may occur together: their own probabilities, thresholds, columns', async () => {
    const { bytes } = tinyModel({ weights: [0, 0, 0], bias: [2, 0.1, -2] });
    const bundle = bundleOf({
      kind: 'classifier',
      input: { width: 32, height: 32, channels: 1, layout: 'NCHW', mean: [0], std: [1] },
      ...{ labels: ['Effusion', 'Mass', 'No finding'], activation: 'sigmoid', multiLabel: true },
      ...{ thresholds: { Mass: 0.6 }, healthy: ['No finding'] },
    });
    await writeBundle(join(dir, 'findings'), bundle, { model: bytes }, '');
    const stage = await open({ bundle: 'findings' });
    const result = resultOf((await stage.processBatch([film(0)]))[0]);
    expect(result.probabilities.Mass).to.be.closeTo(1 / (1 + Math.exp(-0.1)), 1e-6);
    expect(result).to.deep.include({ label: 'Effusion', positives: ['Effusion'] });
    expect(result.suspicion).to.be.closeTo(1 / (1 + Math.exp(-2)), 1e-6);
    expect(result).to.deep.include({ abnormal: true, threshold: 0.5 });
    expect(stage.columns?.map(({ name }) => name)).to.deep.equal([
      ...['positives', 'score', 'threshold', 'abnormal', 'suspicion'],
      'p.Effusion',
      'p.Mass',
      'p.No finding',
    ]);
  });

  it('gives the probability that the film is not healthy, by the labels of the bundle', async () => {
    for (const [healthy, expected] of [
      [['normal'], (p: Classification['probabilities']) => 1 - (p.normal ?? NaN)],
      [['viral', 'normal'], (p: Classification['probabilities']) => p.bacterial],
      [[], () => null],
    ] as const) {
      await toyClassifier(join(dir, 'healthy'), { healthy: [...healthy] });
      const stage = await open({ bundle: 'healthy' });
      const { probabilities, score, abnormal } = resultOf((await stage.processBatch([film(3)]))[0]);
      const wanted = expected(probabilities);
      if (typeof wanted === 'number') expect(score).to.be.closeTo(wanted, 1e-6);
      else expect([score, abnormal]).to.deep.equal([null, null]);
    }
  });

  it('names both sizes and the stage that helps when an image has the wrong one', async () => {
    const stage = await open();
    const error = await refused(stage.processBatch([film(0), makeFrame({ width: 64, height: 48 })]));
    expect(error).to.include({ code: 'BUNDLE_SHAPE', component: 'model' });
    expect(error.message).to.equal(
      'the model "toy" was trained on 32×32 pixels, the image has 64×48: ' +
        'put `use: resize` with `{ width: 32, height: 32 }` before it',
    );
  });

  describe('refuses a bundle', () => {
    it('that is not there', async () => {
      const error = await refused(open({ bundle: 'nowhere' }));
      expect(error.code).to.equal('BUNDLE_NOT_FOUND');
      expect(error.message).to.include(join(dir, 'nowhere', 'bundle.json'));
    });

    it('whose file is missing', async () => {
      await toyClassifier(join(dir, 'gone'));
      await rm(join(dir, 'gone', 'model.onnx'));
      const error = await refused(open({ bundle: 'gone' }));
      expect(error.code).to.equal('BUNDLE_NOT_FOUND');
      expect(error.message).to.include(join(dir, 'gone', 'model.onnx'));
    });

    it('whose file is damaged', async () => {
      await toyClassifier(join(dir, 'damaged'));
      const path = join(dir, 'damaged', 'model.onnx');
      await writeFile(path, (await readFile(path)).subarray(0, 1000));
      const error = await refused(open({ bundle: 'damaged' }));
      expect(error.code).to.equal('BUNDLE_DAMAGED');
      expect(error.message).to.include(path);
    });

    it('whose file is no ONNX graph, although its hash is right', async () => {
      const bundle = bundleOf({
        kind: 'classifier',
        input: { width: 32, height: 32, channels: 1, layout: 'NHWC', mean: [0], std: [1] },
      });
      await writeBundle(join(dir, 'noise'), bundle, { model: Buffer.from('not a graph') }, '');
      expect((await refused(open({ bundle: 'noise' }))).code).to.equal('BUNDLE_DAMAGED');
    });

    it('with blank or equal labels', async () => {
      for (const labels of [
        ['a', ' ', 'b'],
        ['a', 'b', 'a'],
      ]) {
        await toyClassifier(join(dir, 'labelled'));
        const path = join(dir, 'labelled', 'bundle.json');
        const json = JSON.parse(await readFile(path, 'utf8')) as object;
        await writeFile(path, JSON.stringify({ ...json, labels }));
        const error = await refused(open({ bundle: 'labelled' }));
        expect(error.code).to.equal('BUNDLE_DAMAGED');
        expect(error.message).to.match(/each label once|a blank one/);
      }
    });

    it('of another kind', async () => {
      await toyAnogan(join(dir, 'anogan'));
      const error = await refused(open({ bundle: 'anogan' }));
      expect(error.message)
        .to.include('expected a bundle of kind "classifier"')
        .and.match(/the stage for it is `\w+`/);
    });

    it('with more labels than the network has outputs', async () => {
      await toyClassifier(join(dir, 'labels'), { labels: ['a', 'b', 'c', 'd'] });
      const stage = await open({ bundle: 'labels' });
      const error = await refused(stage.processBatch([film(0)]));
      expect(error.message).to.include(
        'returns [1, 3], expected one number for each of the 4 labels (a, b, c, d)',
      );
    });
  });

  describe('lint', () => {
    const trained = [
      { use: 'decode', with: { color: 'grey', maxBytes: 1 } },
      { use: 'clahe', with: { clipLimit: 2, tileGridSize: 8 } },
      { use: 'resize', with: { width: 32, height: 32 } },
    ];
    before(() => toyClassifier(join(dir, 'chained'), { preprocessing: trained }));

    async function lint(preceding: LintContext['preceding'], bundle = 'chained'): Promise<LintMessage[]> {
      const settings = resnet.options.parse({ bundle });
      return [...((await resnet.lint?.(settings, { baseDir: dir, preceding })) ?? [])];
    }

    it('accepts the chain that the model was trained after', async () => {
      expect(await lint(trained)).to.deep.equal([]);
      const withMore = trained.map((step) => ({
        ...step,
        with: { ...step.with, maxBytes: 9, laterOption: true },
        limits: ['maxBytes'],
      }));
      expect(await lint(withMore)).to.deep.equal([]);
    });

    it("counts a stage as preprocessing unless its definition says that it keeps the pixels, a third party's too", async () => {
      const adds = { use: './sharpness.ts', with: {}, keepsPixels: true };
      expect(await lint([...trained, adds])).to.deep.equal([]);
      const [warning] = await lint([...trained, { ...adds, keepsPixels: false }]);
      expect(warning?.message).to.include('was trained without `./sharpness.ts`');
    });

    it('reads that from the definitions of the stages in a graph', async () => {
      await toyClassifier(join(dir, 'sharp'), {
        preprocessing: [{ use: 'decode', with: { maxBytes: 1 } }],
      });
      const yaml = `version: 1
sources: [{ use: watch, with: { path: ./inbox } }]
stages:
  - { use: decode, with: { maxBytes: 2 } }
  - { use: ${resolve('examples/rxray-plugin-sharpness/src/index.ts')} }
  - { use: resnet, with: { bundle: ./sharp } }
sinks: [{ use: console }]`;
      const file = join(dir, 'pipeline.yaml');
      const { issues } = await parsePipeline(yaml, { file, registry: builtInRegistry(), env: {} });
      expect(issues).to.deep.equal([]);
    });

    it('compares an option unless the definition calls it a limit', async () => {
      const [decode, ...others] = trained;
      const other = { use: 'decode', with: { ...decode?.with, maxBytes: 9 } };
      expect(await lint([{ ...other, limits: ['maxBytes'] }, ...others])).to.deep.equal([]);
      expect(await lint([other, ...others])).to.have.length(1);
    });

    it('names every difference', async () => {
      const messages = await lint([
        { use: 'decode', with: { color: 'keep' }, limits: ['maxBytes'] },
        { use: 'crop', with: {} },
        { use: 'resize', with: { width: 32, height: 32 } },
      ]);
      expect(messages.map(({ severity, message }) => `${severity}: ${message}`)).to.deep.equal([
        'warning: other preprocessing than in training: decode.color is "keep" here and was "grey" for "toy"',
        'warning: other preprocessing than in training: "toy" was trained after `clahe`, which is missing here (or is in another order)',
        'warning: other preprocessing than in training: "toy" was trained without `crop` (or with it in another order)',
      ]);
    });

    it('compares the models that a `bundle` names, not the paths', async () => {
      await toySegmenter(join(dir, 'lungs'));
      await cp(join(dir, 'lungs'), join(dir, 'ward', 'lungs'), { recursive: true });
      await toySegmenter(join(dir, 'other-lungs'), 0.5);
      const unetOf = (bundle: string) => [{ id: 'lungs', use: 'unet', with: { bundle } }];
      await toyClassifier(join(dir, 'cut'), { preprocessing: unetOf(join(dir, 'lungs')) });
      expect(await lint(unetOf('ward/lungs'), 'cut')).to.deep.equal([]);
      const [other] = await lint(unetOf('other-lungs'), 'cut');
      expect(other).to.include({ severity: 'warning', code: 'CONFIG_PREPROCESSING', stage: 'lungs' });
      expect(other?.message).to.include('unet.bundle has another model than in training');
      await toyClassifier(join(dir, 'alone'), { preprocessing: unetOf(join(dir, 'nowhere')) });
      const [unknown] = await lint(unetOf('ward/lungs'), 'alone');
      expect(unknown?.message)
        .to.include('unet.bundle cannot be compared with the one in training')
        .and.include('nowhere');
    });

    it('names the missing stages of a model directly after the source', async () => {
      expect(await lint([])).to.have.length(3);
    });

    it('calls another size an error', async () => {
      const preceding = trained.map((step) =>
        step.use === 'resize' ? { use: 'resize', with: { width: 64, height: 32 } } : step,
      );
      const [error, ...warnings] = await lint(preceding);
      expect(error).to.include({ severity: 'error', code: 'BUNDLE_SHAPE' });
      expect(error?.message).to.include('images have 64×32 pixels here, but "toy" was trained on 32×32');
      expect(warnings).to.have.length(1);
    });

    it('says that the bundle is missing', async () => {
      const [error] = await lint([], 'nowhere');
      expect(error).to.deep.include({ severity: 'error', code: 'BUNDLE_NOT_FOUND', option: ['bundle'] });
    });
  });

  describe('with `runtime: tensorflow`', () => {
    tensorflowOnCpu();

    it('gives the same in TensorFlow.js as in ONNX Runtime', async () => {
      const stages = [await open(), await open({ runtime: 'tensorflow' })];
      const frames = [film(0), film(1)];
      const [onnx, tensorflow] = await Promise.all(stages.map((stage) => stage.processBatch(frames)));
      for (const i of frames.keys()) {
        const a = resultOf(onnx?.[i]).probabilities;
        const b = resultOf(tensorflow?.[i]).probabilities;
        for (const label of Object.keys(a)) expect(b[label]).to.be.closeTo(a[label] ?? NaN, 1e-5);
      }
      for (const stage of stages) await stage.dispose?.();
    });
  });
});

describe('softmax and classify', () => {
  it('turn logits into probabilities without overflowing', () => {
    expect(softmax([0, 0])).to.deep.equal([0.5, 0.5]);
    expect(softmax([1000, 1000, -1000])).to.deep.equal([0.5, 0.5, 0]);
  });

  it('call a film abnormal by the threshold of the bundle, whatever its most probable label is', () => {
    const meaning = { labels: ['sain', 'malade'], healthy: ['sain'], threshold: 0.3 };
    const judged = (p: number) => classify([1 - p, p], meaning, 2);
    expect(judged(0.4)).to.deep.include({ label: 'sain', abnormal: true, threshold: 0.3 });
    expect(judged(0.4).suspicion).to.be.closeTo(0.5 + (0.5 * 0.1) / 0.7, 1e-12);
    expect(judged(0.15).abnormal).to.equal(false);
    expect(judged(0.15).suspicion).to.be.closeTo(0.25, 1e-12);
    expect(judged(1).suspicion).to.equal(1);
  });

  it('rank labels', () => {
    const result = classify([0.2, 0.7, 0.1], { labels: ['a', 'b', 'c'] }, 9);
    expect(result.label).to.equal('b');
    expect(result.topK.map(({ label }) => label)).to.deep.equal(['b', 'a', 'c']);
  });
});
