import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { Engine, traceToOnnx } from '../../src/engine/index.js';
import { builtInRegistry } from '../../src/host/builtins.js';
import { readBundle } from '../../src/models/bundle.js';
import { testServices } from '../../src/testing.js';
import { importDetector, openOnnxDetector } from '../../src/training/import-detector.js';

const FIXTURES = fileURLToPath(new URL('../../fixtures/', import.meta.url));

/** As `fixtures/make_retinanet.py` writes them. */
interface PeerBox {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly score: number;
  readonly label: number;
}

describe('importing a detector', () => {
  let dir: string;
  let engine: Engine;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-import-'));
    engine = new Engine({ threads: () => 1 });
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  it("finds torchvision's boxes, to half a pixel", async () => {
    const model = await openOnnxDetector(join(FIXTURES, 'detection', 'retinanet.onnx'), engine);
    if (model === undefined) throw new Error('expected a detector');
    const { width, height, channels } = model.images;
    if (width === undefined || height === undefined || channels === undefined)
      throw new Error('expected a size');
    const labels = ['background', 'mass', 'opacity'];
    const settings = {
      ...{
        labels,
        width,
        height,
        channels,
        mean: [0],
        std: [1],
        name: 'theirs',
        license: 'CC0-1.0',
        source: '',
      },
      range: [0, 1] as const,
      chain: [{ use: 'decode', with: {} }],
      thresholds: Object.fromEntries(labels.map((label) => [label, 0.3])),
    };
    const services = { registry: builtInRegistry(), engine, log: testServices().log, rxray: '0.1.0' };
    const film = join(FIXTURES, 'film-8bit.png');
    const { bundle, result } = await importDetector(model, settings, join(dir, 'theirs'), film, services);
    expect(bundle.kind).to.equal('detector');
    expect((await readBundle(join(dir, 'theirs'))).architecture.origin).to.have.property('retinanet.onnx');

    const peer = JSON.parse(
      await readFile(join(FIXTURES, 'detection', 'retinanet.json'), 'utf8'),
    ) as PeerBox[];
    expect(peer.length).to.be.above(5);
    expect(result.boxes).to.have.length(peer.length);
    result.boxes.forEach((box, i) => {
      const other = peer[i] as PeerBox;
      expect(box.label).to.equal(labels[other.label]);
      expect(box.score).to.be.closeTo(other.score, 1e-3);
      for (const key of ['x', 'y', 'width', 'height'] as const)
        expect(box[key], key).to.be.closeTo(other[key], 0.5);
    });
  });

  it('tells a classifier from a detector, and refuses a detector of something else than one image', async () => {
    const classifier = traceToOnnx(({ images }) => ({ logits: tf.mean(images as tf.Tensor, [1, 2]) }), {
      images: { shape: [1, 8, 8, 3] },
    });
    await writeFile(join(dir, 'classifier.onnx'), classifier.bytes);
    expect(await openOnnxDetector(join(dir, 'classifier.onnx'), engine)).to.equal(undefined);
    const pairs = traceToOnnx(
      ({ images }) => {
        const all = tf.sum(images as tf.Tensor, [1, 2, 3]);
        return {
          boxes: tf.tile(tf.reshape(all, [2, 1]), [1, 4]),
          scores: all,
          labels: tf.cast(all, 'int32'),
        };
      },
      { images: { shape: [2, 8, 8, 3] } },
    );
    await writeFile(join(dir, 'text.onnx'), 'no model');
    const damaged = await openOnnxDetector(join(dir, 'text.onnx'), engine).catch((cause: unknown) => cause);
    expect(damaged).to.include({ code: 'IMPORT_REFUSED' });
    await writeFile(join(dir, 'pairs.onnx'), pairs.bytes);
    const error = await openOnnxDetector(join(dir, 'pairs.onnx'), engine).catch((cause: unknown) => cause);
    expect(error).to.include({ code: 'IMPORT_REFUSED' });
    expect((error as Error).message).to.include('takes images float32 [2, 8, 8, 3]');
  });
});
