import { expect } from 'chai';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { RxrayError } from '../../src/core/errors.js';
import type { Classification } from '../../src/core/frame.js';
import { Engine } from '../../src/engine/index.js';
import { builtInRegistry } from '../../src/host/builtins.js';
import { readBundle } from '../../src/models/bundle.js';
import { softmax } from '../../src/plugins/resnet.js';
import { testServices } from '../../src/testing.js';
import { openModel } from '../../src/training/evaluation/score.js';
import {
  fitClassifier,
  inputOf,
  openOnnxClassifier,
  type ImportSettings,
} from '../../src/training/import-classifier.js';
import { writeBundle } from '../../src/training/write-bundle.js';
import { bundleOf } from '../support/bundles.js';
import { tinyModel, type TinyModel } from '../support/onnx-models.js';

describe('import of classifiers from elsewhere', function () {
  this.timeout(60_000);
  let engine: Engine;
  let dir: string;
  before(async () => {
    engine = new Engine({ threads: () => 1 });
    dir = await mkdtemp(join(tmpdir(), 'rxray-import-'));
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });
  const MEAN = 102 / 255;
  const film = {
    ...{ width: 32, height: 32, channels: 1 as const },
    data: Uint8Array.from({ length: 32 * 32 }, (_, i) => (i % 2 === 0 ? 92 : 112)),
  };

  async function put(name: string, bytes: Uint8Array): Promise<string> {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), bytes);
    return join(dir, name);
  }

  /** As `rxray import` does, but for the chain: the film is prepared already. */
  async function importIt(path: string, other: Partial<ImportSettings> = {}) {
    const model = await openOnnxClassifier(path, engine);
    const settings = {
      ...{ labels: ['a', 'b', 'c'], width: 32, height: 32, channels: model.images.channels ?? 1 },
      ...{ layout: 'NCHW' as const, mean: [0], std: [1], thresholds: undefined },
      range: model.images.bytes ? ([0, 255] as const) : ([0, 1] as const),
      ...{ activation: undefined, multiLabel: undefined, output: undefined },
      ...other,
    };
    const input = inputOf(settings, model.images.bytes);
    const { bytes, activation, multiLabel } = await fitClassifier(model, film, input, settings, engine);
    const { labels, thresholds } = settings;
    const described = bundleOf({
      ...{ kind: 'classifier', input, labels: [...labels], activation, multiLabel },
      ...(thresholds && { thresholds }),
    });
    const out = join(dir, 'out');
    const bundle = await writeBundle(out, described, { model: bytes }, '');
    const { log } = testServices({ id: 'import' });
    const services = { registry: builtInRegistry(), engine, log, stateDir: dir };
    const stage = await openModel(out, 'classifier', {}, services);
    const [result] = await stage.score([film]).finally(() => stage.dispose());
    return { bundle, result: result as Classification };
  }

  const tiny = async (model: TinyModel, name = 'model.onnx'): Promise<string> =>
    put(name, tinyModel(model).bytes);

  async function refused(promise: Promise<unknown>): Promise<string> {
    const error: unknown = await promise.then(
      () => expect.fail('it was accepted'),
      (thrown: unknown) => thrown,
    );
    expect(error).to.be.instanceOf(RxrayError).and.include({ code: 'IMPORT_REFUSED' });
    return (error as Error).message;
  }

  function close(probabilities: Readonly<Record<string, number>>, expected: number[], within = 1e-4): void {
    expect(Object.values(probabilities)).to.have.length(expected.length);
    Object.values(probabilities).forEach((p, i) => {
      expect(p).to.be.closeTo(expected[i] ?? NaN, within);
    });
  }

  const weights = [2, -3, 1];
  const logits = weights.map((weight) => weight * MEAN);
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

  describe('take what the numbers mean from the graph and several answers, or as told', () => {
    it('logits of one choice', async () => {
      const { bundle, result } = await importIt(await tiny({ weights }));
      expect(bundle).to.include({ activation: 'softmax', multiLabel: false });
      close(result.probabilities, softmax(logits));
      expect(result.positives).to.equal(undefined);
    });

    it('a softmax, a log-softmax', async () => {
      const soft = await importIt(await tiny({ weights, then: ['Softmax'] }));
      expect(soft.bundle).to.include({ activation: 'none', multiLabel: false });
      close(soft.result.probabilities, softmax(logits));
      const log = await importIt(await tiny({ weights, then: ['LogSoftmax'] }));
      close(log.result.probabilities, softmax(logits));
    });

    it('a sigmoid for each finding: its own probability, several positives, thresholds', async () => {
      const path = await tiny({ weights, bias: [0, 1, -3], then: ['Sigmoid'] });
      const expected = [sigmoid(0.8), sigmoid(-0.2), sigmoid(-2.6)];
      const { bundle, result } = await importIt(path, { thresholds: { b: 0.4 } });
      expect(bundle).to.include({ activation: 'none', multiLabel: true });
      close(result.probabilities, expected);
      expect(result.positives).to.deep.equal(['a', 'b']);
      expect((await importIt(path)).result.positives).to.deep.equal(['a']);
      expect(await readBundle(join(dir, 'out'))).to.include({ activation: 'none', multiLabel: true });
    });

    it('one sigmoid alone', async () => {
      const { result } = await importIt(await tiny({ weights: [2], then: ['Sigmoid'] }), { labels: ['a'] });
      close(result.probabilities, [sigmoid(0.8)]);
      expect(result.positives).to.deep.equal(['a']);
    });

    it('logits of findings, where the person says so', async () => {
      const path = await tiny({ weights });
      close((await importIt(path, { activation: 'sigmoid' })).result.probabilities, logits.map(sigmoid));
      const several = await importIt(path, { multiLabel: true });
      expect(several.bundle).to.include({ activation: 'sigmoid', multiLabel: true });
    });

    it('and refuse what may mean either', async () => {
      // Between 0 and 1 for every film, and no sigmoid behind it.
      const shares = await tiny({ weights: [0.3, 0.9, 0.1] });
      expect(await refused(importIt(shares))).to.match(/do not sum to 1 .*--activation softmax/);
      close((await importIt(shares, { activation: 'none' })).result.probabilities, [0.12, 0.36, 0.04]);
      // Scaled after the sigmoid, as percents are.
      const scaled = await tiny({ weights, then: ['Sigmoid', 'Exp'] });
      expect(await refused(importIt(scaled))).to.match(
        /ends in a sigmoid or softmax, but .* no probabilities/,
      );
      const one = await tiny({ weights: [2] });
      expect(await refused(importIt(one, { labels: ['a'] }))).to.include('one label alone');
      expect(await refused(importIt(one, { labels: ['a'], activation: 'softmax' }))).to.include('always 1');
      const findings = { labels: ['Effusion', 'Mass', 'Pleural_Thickening'] };
      const raw = await tiny({ weights });
      expect(await refused(importIt(raw, findings))).to.include('findings that may occur together');
      expect(await refused(importIt(raw, { activation: 'none' }))).to.include('probabilities, but it gives');
    });
  });

  describe('take exports of other shapes and types', () => {
    for (const input of ['float16', 'float64', 'uint8'] as const) {
      it(`${input} images`, async () => {
        const scaled = input === 'uint8' ? weights.map((weight) => weight / 255) : weights;
        const { bundle, result } = await importIt(await tiny({ weights: scaled, input, channels: 3 }));
        close(result.probabilities, softmax(logits), input === 'float16' ? 1e-3 : 1e-4);
        expect(bundle.files.model?.path).to.match(/^model/);
      });
    }
    for (const output of ['float16', 'float64'] as const) {
      it(`${output} scores`, async () => {
        close((await importIt(await tiny({ weights, output }))).result.probabilities, softmax(logits), 1e-3);
      });
    }
    for (const shape of ['NK11', 'K'] as const) {
      it(`scores of the shape ${shape}`, async () => {
        const path = await tiny({ weights, shape, batch: shape === 'K' ? 1 : 'N' });
        close((await importIt(path)).result.probabilities, softmax(logits));
      });
    }

    it('several outputs: the one with a number for each label, or the one named', async () => {
      const path = await tiny({ weights, features: true });
      close((await importIt(path)).result.probabilities, softmax(logits));
      const same = await tiny({ weights, features: true, channels: 3 });
      expect(await refused(importIt(same))).to.match(/features float32 \[1, 3\]; scores .*--output/);
      close((await importIt(same, { output: 'scores' })).result.probabilities, softmax(logits));
      expect(await refused(importIt(same, { output: 'other' }))).to.match(
        /no output "other".*features.*scores/,
      );
      expect(await refused(importIt(path, { labels: ['a', 'b'] }))).to.match(/each of the 2 labels.*scores/);
    });

    it('and refuse other types with what was found', async () => {
      expect(await refused(importIt(await tiny({ weights, input: 'uint8' }), { range: [0, 1] }))).to.include(
        'it takes bytes, but black and white would reach it as 0.0 and 1.0',
      );
    });
  });

  describe('weights beside the model', () => {
    const model = { weights, external: 'my model.onnx.data' };

    it('become part of the bundle, which gives the same answer anywhere', async () => {
      const { bytes, weights: data } = tinyModel(model);
      const path = await put('export/my model.onnx', bytes);
      await put('export/my model.onnx.data', data);
      // What lies in the working directory under that name is never looked at.
      const { origin } = await openOnnxClassifier(path, engine);
      expect(origin).to.have.all.keys('my model.onnx', 'my model.onnx.data');
      const { bundle, result } = await importIt(path);
      close(result.probabilities, softmax(logits));
      await rm(join(dir, 'export'), { recursive: true });
      const kept = await readFile(join(dir, 'out', bundle.files.model?.path ?? ''));
      const session = await engine.load(kept, { name: 'kept' });
      await session.dispose();
    });

    it('are refused by name when they are missing, cut short, or outside the folder', async () => {
      const { bytes, weights: data } = tinyModel(model);
      const path = await put('lone/model.onnx', bytes);
      expect(await refused(importIt(path))).to.match(/keeps its weights in "my model\.onnx\.data".*ENOENT/);
      await put('lone/my model.onnx.data', data.subarray(0, 20));
      expect(await refused(importIt(path))).to.match(/"my model\.onnx\.data" has 20 bytes.*cut short/);
      const outside = await put('lone/outside.onnx', tinyModel({ weights, external: '../x.data' }).bytes);
      expect(await refused(importIt(outside))).to.include('outside its folder: "../x.data"');
    });

    it('are never looked up in the working directory by the engine', async () => {
      const loading = engine.load(tinyModel(model).bytes, { name: 'bundle' });
      const error: unknown = await loading.catch((thrown: unknown) => thrown);
      expect((error as Error).message).to.include('its weights are in another file, "my model.onnx.data"');
    });
  });
});
