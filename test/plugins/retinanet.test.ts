import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import type { Detection, Frame } from '../../src/core/frame.js';
import type { BatchStage, FrameStage } from '../../src/core/plugin.js';
import { verdictOf } from '../../src/core/verdict.js';
import { Engine, traceToOnnx } from '../../src/engine/index.js';
import crop from '../../src/plugins/crop.js';
import resize from '../../src/plugins/resize.js';
import retinanet from '../../src/plugins/retinanet.js';
import { makeFrame, stageContract, testServices } from '../../src/testing.js';
import { writeBundle } from '../../src/training/write-bundle.js';
import { bundleOf, toyClassifier, toyDetector, withEngine } from '../support/bundles.js';

describe('the stage retinanet', () => {
  let dir: string;
  let engine: Engine;
  const open: BatchStage[] = [];

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-retinanet-'));
    engine = new Engine({ threads: () => 1 });
    await toyDetector(join(dir, 'boxes'));
  });
  after(async () => {
    for (const stage of open) await stage.dispose?.();
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  stageContract('retinanet', () => ({
    plugin: retinanet,
    with: { bundle: join(dir, 'boxes'), device: 'cpu' },
    services: withEngine(engine, dir),
    refused: [{}, { bundle: 'boxes', scoreThreshold: 1 }, { bundle: 'boxes', maxDetections: 0 }],
    frame: (index) => makeFrame({ name: `film-${index}.png`, seed: index, width: 32, height: 32 }),
    tolerance: 1e-4,
  }));

  async function make(settings: object = {}): Promise<BatchStage> {
    const options = retinanet.options.parse({ bundle: 'boxes', device: 'cpu', ...settings });
    const stage = (await retinanet.create(options, withEngine(engine, dir))) as BatchStage;
    open.push(stage);
    return stage;
  }
  /** The frame after stages that change its pixels. */
  async function through(
    frame: Frame,
    ...stages: [plugin: typeof resize, settings: object][]
  ): Promise<Frame> {
    let made = frame;
    for (const [plugin, settings] of stages) {
      const parsed = plugin.options.parse(settings) as never;
      const stage = (await plugin.create(parsed, testServices({ id: plugin.name }))) as FrameStage;
      made = await stage.process(made);
    }
    return made;
  }
  async function found(stage: BatchStage, ...frames: Frame[]): Promise<Detection[]> {
    return (await stage.processBatch(frames)).map(({ results }) => results.model as Detection);
  }
  const film = makeFrame({ name: 'film.png', width: 320, height: 160 });
  const toNetwork: [typeof resize, object] = [resize, { width: 32, height: 32 }];

  it("answers in the film's own pixels, whatever was cut and resized before", async () => {
    const stage = await make({ maxDetections: 1 });
    const plain = await through(film, toNetwork);
    const cut = await through(
      film,
      [crop, { x: 100, y: 20, width: 200, height: 100 }],
      [resize, { width: 100, height: 50 }],
      [resize, { width: 32, height: 32, fit: 'contain' }],
    );
    const [whole, part] = await found(stage, plain, cut);
    expect(whole?.suspicion).to.be.closeTo(0.9, 1e-6);
    expect({ ...whole, suspicion: 0.9 }).to.deep.equal({
      kind: 'detection',
      count: 1,
      boxes: [{ x: 0, y: 0, width: 100, height: 50, label: 'opacity', score: 0.9 }],
      film: { width: 320, height: 160 },
      score: 0.9,
      threshold: 0.5,
      abnormal: true,
      suspicion: 0.9,
    });
    expect(part?.boxes[0]).to.deep.include({ x: 100, y: -30, width: 62.5, height: 62.5 });
    expect(part?.film).to.deep.equal({ width: 320, height: 160 });
  });

  it('lets boxes overlap as much as it is told to', async () => {
    const plain = await through(film, toNetwork);
    const counts = [0, 0.3, 1].map(
      async (iouThreshold) => (await found(await make({ iouThreshold }), plain))[0]?.count,
    );
    const [apart = 0, few = 0, all = 0] = await Promise.all(counts);
    expect(apart).to.be.below(few);
    expect(few).to.be.below(all);
    // A square at each place of the five grids.
    expect(all).to.equal(16 + 4 + 1 + 1 + 1);
  });

  it("counts boxes from the threshold on: the graph's, else the label's of the bundle", async () => {
    const plain = await through(film, toNetwork);
    const [below] = await found(await make({ scoreThreshold: 0.95 }), plain);
    expect(below).to.deep.include({ count: 0, boxes: [], abnormal: false, score: 0.9, threshold: 0.95 });
    expect(below?.suspicion).to.be.closeTo(0.4737, 1e-4);
    expect(verdictOf({ model: below })).to.include({ abnormal: false, stage: 'model' });

    await toyDetector(join(dir, 'strict'), { thresholds: { mass: 0.0005, opacity: 0.95 } });
    const [masses] = await found(await make({ bundle: 'strict', maxDetections: 3 }), plain);
    expect(masses?.boxes.map(({ label }) => label)).to.deep.equal(['mass', 'mass', 'mass']);
    expect(masses).to.include({ abnormal: true, threshold: 0.0005 });
  });

  it('runs a network from elsewhere, which has a suppression of its own', async () => {
    const model = traceToOnnx(
      ({ images }) => {
        const nothing = tf.mul(tf.mean(images as tf.Tensor), 0);
        return {
          boxes: tf.add(tf.tensor2d([1, 2, 11, 22, 0, 0, 5, 5], [2, 4]), nothing),
          scores: tf.add(tf.tensor1d([0.4, 0.8]), nothing),
          labels: tf.cast(tf.add(tf.tensor1d([1, 1]), nothing), 'int32'),
        };
      },
      { images: { shape: [3, 32, 32] } },
    );
    const bundle = bundleOf({
      kind: 'detector',
      input: { width: 32, height: 32, channels: 3, layout: 'NCHW', mean: [0], std: [1] },
      labels: ['background', 'opacity'],
    });
    await writeBundle(join(dir, 'foreign'), bundle, { model: model.bytes }, 'foreign');
    const plain = await through(film, toNetwork);
    const [one, other] = await found(await make({ bundle: 'foreign' }), plain, plain);
    expect(one?.boxes).to.deep.equal([{ x: 0, y: 0, width: 50, height: 25, label: 'opacity', score: 0.8 }]);
    expect(other).to.deep.equal(one);
    const [both] = await found(await make({ bundle: 'foreign', scoreThreshold: 0.3 }), plain);
    expect(both?.boxes[1]).to.deep.include({ x: 10, y: 10, width: 100, height: 100, score: 0.4 });
  });

  it('refuses a bundle of another kind, a film of another size, and thresholds out of range', async () => {
    await toyClassifier(join(dir, 'classifier'));
    const wrong = await make({ bundle: 'classifier' }).catch((error: unknown) => error);
    expect(wrong).to.include({ code: 'BUNDLE_DAMAGED' });
    const large = await found(await make(), film).catch((error: unknown) => error);
    expect(large).to.include({ code: 'BUNDLE_SHAPE' });
    expect(retinanet.options.safeParse({ bundle: 'boxes', scoreThreshold: 1 }).success).to.equal(false);
    const context = { baseDir: dir, preceding: [{ use: 'decode', with: {} }] };
    const messages = await retinanet.lint?.(retinanet.options.parse({ bundle: 'boxes' }), context);
    expect(messages?.[0]?.message).to.include('was trained after `resize`');
  });
});
