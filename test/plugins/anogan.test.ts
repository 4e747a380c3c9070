import { expect } from 'chai';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Anomaly, Frame, Image } from '../../src/core/frame.js';
import type { BatchStage } from '../../src/core/plugin.js';
import { Engine } from '../../src/engine/index.js';
import { readBundle, readBundleFile } from '../../src/models/bundle.js';
import { writeBundle } from '../../src/training/write-bundle.js';
import { initDcgan } from '../../src/models/index.js';
import anogan from '../../src/plugins/anogan.js';
import { makeFrame, stageContract, type TestServices } from '../../src/testing.js';
import { scoreFilms } from '../../src/training/anogan.js';
import { toyAnogan, toyClassifier, withEngine } from '../support/bundles.js';
import { tensorflowOnCpu } from '../support/tensorflow-on-cpu.js';

describe('anogan', () => {
  let engine: Engine;
  let dir: string;
  before(async () => {
    engine = new Engine({ threads: () => 1 });
    dir = await mkdtemp(join(tmpdir(), 'rxray-anogan-'));
    await toyAnogan(join(dir, 'toy'));
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  const film = (index: number, name = `film-${index}.png`): Frame =>
    makeFrame({ name, seed: index, width: 64, height: 64 });

  async function open(settings: Record<string, unknown> = {}, services?: TestServices): Promise<BatchStage> {
    const options = anogan.options.parse({
      bundle: 'toy',
      device: 'cpu',
      ...settings,
    });
    return (await anogan.create(options, services ?? withEngine(engine, dir))) as BatchStage;
  }

  const resultOf = (frame: Frame | undefined): Anomaly => frame?.results.model as Anomaly;

  stageContract('anogan', () => ({
    plugin: anogan,
    with: { bundle: join(dir, 'toy'), device: 'cpu' },
    services: withEngine(engine, dir),
    frame: (index) => film(index),
    tolerance: 1e-4,
  }));

  it('scores a film and shows what it could not reconstruct', async () => {
    const stage = await open();
    const [frame] = await stage.processBatch([film(0)]);
    const result = resultOf(frame);
    const { anomalyScore, rawSum, percentile } = result;
    const { residualLoss, discriminationLoss, spread } = result as unknown as Record<string, number>;
    const { residual, reconstruction } = result as unknown as Record<string, Image>;
    expect(result.kind).to.equal('anomaly');
    expect(anomalyScore).to.be.closeTo(0.9 * (residualLoss ?? 0) + 0.1 * (discriminationLoss ?? 0), 1e-9);
    // 64 × 64 pixels; 4 × 4 × 16 features.
    const sums = 0.9 * (residualLoss ?? 0) * 4096 + 0.1 * (discriminationLoss ?? 0) * 256;
    expect(rawSum).to.be.closeTo(sums, 1e-3 * sums);
    expect(percentile).to.be.within(0, 100);
    expect(spread).to.be.above(0);
    const pixels = film(0).image?.data ?? new Uint8Array();
    expect(residual).to.include({ width: 64, height: 64, channels: 1 });
    for (const i of [0, 100, 4095]) {
      const difference = Math.abs((pixels[i] ?? 0) - (reconstruction?.data[i] ?? 0));
      expect(residual?.data[i]).to.be.closeTo(difference, 1);
    }
    const mean = Array.from(residual?.data ?? []).reduce((a, b) => a + b, 0) / 4096;
    expect(mean / 127.5).to.be.closeTo(residualLoss ?? 0, 0.01);
    expect(stage.columns?.map((column) => column.name)).to.deep.equal([
      ...['anomalyScore', 'threshold', 'abnormal', 'suspicion', 'percentile', 'rawSum', 'robustZ'],
    ]);
    expect(stage.columns?.filter(({ onRequest }) => onRequest).map(({ name }) => name)).to.deep.equal([
      ...['rawSum', 'robustZ'],
    ]);
  });

  it('has the sums of the paper, and the percentile among normal films', async () => {
    const [frame] = await (await open()).processBatch([film(0)]);
    const { anomalyScore, rawSum, residualSum, discriminationSum, robustZ, threshold, abnormal } = resultOf(
      frame,
    ) as unknown as Record<string, number>;
    expect(rawSum).to.be.closeTo(0.9 * (residualSum ?? 0) + 0.1 * (discriminationSum ?? 0), 1e-3);
    // Of 0, 0.1 … 0.9: the median is 0.45, the median deviation from it 0.25; 5 % of ten films are none.
    expect(robustZ).to.be.closeTo(((anomalyScore ?? 0) - 0.45) / (1.4826 * 0.25), 1e-9);
    expect(threshold).to.equal(0.9);
    expect(abnormal).to.equal((anomalyScore ?? 0) > 0.9);
  });

  it('takes the image of the encoder, or searches from there', async () => {
    const score = async (settings: Record<string, unknown>): Promise<Anomaly> => {
      const [frame] = await (await open(settings)).processBatch([film(0), film(1)]);
      return resultOf(frame);
    };
    const encoded = await score({ method: 'encoder' });
    expect(encoded.spread).to.equal(null);
    expect(encoded.percentile).to.be.within(0, 100);
    // Gradient steps do not touch what takes none.
    expect(await score({ method: 'encoder', steps: 60 })).to.deep.equal(encoded);
    const refined = await score({ method: 'refine', steps: 60, learningRate: 0.2 });
    expect(refined.anomalyScore).to.be.below(encoded.anomalyScore);
    expect(refined.percentile).to.equal(null);
    expect((await score({ method: 'refine' })).percentile).to.be.within(0, 100);
  });

  it('refuses methods with an encoder for a bundle without one', async () => {
    const { files, ...bundle } = await readBundle(join(dir, 'toy'));
    const bytes = (role: string): Promise<Uint8Array> =>
      readBundleFile(join(dir, 'toy'), { ...bundle, files }, role);
    const two = { search: await bytes('search'), features: await bytes('features') };
    await writeBundle(join(dir, 'without'), bundle, two, 'toy');
    const error = await open({ bundle: 'without', method: 'encoder' }).catch((e: unknown) => e);
    expect(error).to.include({ code: 'BUNDLE_DAMAGED' });
    expect((error as Error).message).to.include('"toy" has no encoder: expected `method: search`');
    const settings = anogan.options.parse({ bundle: 'without', method: 'refine' }) as never;
    const [message] = (await anogan.lint?.(settings, { baseDir: dir, preceding: [] })) ?? [];
    expect(message).to.deep.include({ severity: 'error', option: ['method'] });
  });

  it('depends on the pixels alone: not on the name, the batch or what came before', async () => {
    const stage = await open();
    const [alone] = await stage.processBatch([film(5)]);
    const batch = await stage.processBatch([film(1), film(2), film(5, 'renamed.png'), film(3)]);
    expect(resultOf(batch[2]).anomalyScore).to.be.closeTo(resultOf(alone).anomalyScore, 1e-5);
  });

  it('comes closer with more steps, and is never worse with a restart', async () => {
    const score = async (settings: Record<string, unknown>): Promise<number> => {
      const stage = await open({ steps: 2, restarts: 1, learningRate: 0.2, ...settings });
      const frames = await stage.processBatch([film(0), film(1)]);
      return frames.reduce((sum, frame) => sum + resultOf(frame).anomalyScore, 0);
    };
    const short = await score({});
    expect(await score({ steps: 60 })).to.be.below(short);
    expect(await score({ restarts: 4 })).to.be.at.most(short + 1e-6);
  });

  it('scores a film exactly as training scored the reference', async () => {
    const options = { width: 2, zDim: 10 };
    const image = film(6).image as Image;
    const films = { ...image, data: image.data as Uint8Array };
    const search = { steps: 12, lambda: 0.1, learningRate: 0.05, restarts: 2 };
    const parameters = initDcgan(options, 1);
    const [trained] = await scoreFilms(engine, options, parameters, films, Uint32Array.of(0), search);
    const [frame] = await (await open()).processBatch([film(6)]);
    expect(resultOf(frame).anomalyScore).to.equal(trained?.anomalyScore);
  });

  it('has no spread with one restart', async () => {
    const stage = await open({ restarts: 1 });
    const [frame] = await stage.processBatch([film(0)]);
    expect(resultOf(frame).spread).to.equal(null);
  });

  it('gives no percentile, and says why, if its search differs from that of the reference', async () => {
    const services = withEngine(engine, dir);
    const stage = await open({ steps: 5 }, services);
    const [frame] = await stage.processBatch([film(0)]);
    expect(resultOf(frame).percentile).to.equal(null);
    expect(services.logged.join()).to.include(
      'no percentiles: steps is 5, the reference scores were made with 12',
    );
    const settings = anogan.options.parse({ bundle: 'toy', steps: 5 }) as never;
    const [message] = (await anogan.lint?.(settings, { baseDir: dir, preceding: [] })) ?? [];
    expect(message).to.deep.include({ severity: 'warning', option: [] });
    expect(message?.message).to.include('no percentiles');
  });

  it('names both sizes when an image has the wrong one', async () => {
    const stage = await open();
    const error = await stage.processBatch([makeFrame({ width: 32, height: 64 })]).catch((e: unknown) => e);
    expect(error).to.include({ code: 'BUNDLE_SHAPE' });
    expect((error as Error).message).to.include('64×64 pixels, the image has 32×64');
  });

  it('refuses a bundle of another kind, and one that is not there', async () => {
    await toyClassifier(join(dir, 'classifier'));
    expect(await open({ bundle: 'classifier' }).catch((e: unknown) => e)).to.include({
      code: 'BUNDLE_DAMAGED',
    });
    expect(await open({ bundle: 'nowhere' }).catch((e: unknown) => e)).to.include({
      code: 'BUNDLE_NOT_FOUND',
    });
  });

  describe('with `runtime: tensorflow`', () => {
    tensorflowOnCpu();

    it('gives the same in TensorFlow.js as in ONNX Runtime', async () => {
      const settings = { steps: 2, restarts: 1 };
      const stages = [await open(settings), await open({ ...settings, runtime: 'tensorflow' })];
      const [onnx, tensorflow] = await Promise.all(stages.map((stage) => stage.processBatch([film(0)])));
      expect(resultOf(tensorflow?.[0]).anomalyScore).to.be.closeTo(resultOf(onnx?.[0]).anomalyScore, 1e-4);
      for (const stage of stages) await stage.dispose?.();
    });

    it('encodes to the same', async () => {
      const settings = { method: 'encoder' };
      const stages = [await open(settings), await open({ ...settings, runtime: 'tensorflow' })];
      const [onnx, tensorflow] = await Promise.all(stages.map((stage) => stage.processBatch([film(0)])));
      expect(resultOf(tensorflow?.[0]).anomalyScore).to.be.closeTo(resultOf(onnx?.[0]).anomalyScore, 1e-4);
      for (const stage of stages) await stage.dispose?.();
    });
  });
});
