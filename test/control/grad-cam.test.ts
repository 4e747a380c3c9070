import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { GradCam } from '../../src/control/grad-cam.js';
import type { Model } from '../../src/control/models.js';
import type { Image } from '../../src/core/frame.js';
import { Engine } from '../../src/engine/index.js';
import { readBundle } from '../../src/models/bundle.js';
import { writeBundle } from '../../src/training/write-bundle.js';
import { exportResnet, initResnet } from '../../src/models/index.js';
import { bundleOf } from '../support/bundles.js';

const SIZE = 96;

describe('GradCam', () => {
  let dir: string;
  let engine: Engine;
  let gradCam: GradCam;
  let model: Model;

  before(async () => {
    dir = join(await mkdtemp(join(tmpdir(), 'rxray-grad-cam-')), 'toy');
    const options = { depth: 18, width: 4, inputSize: SIZE, classes: 2, zeroInitGamma: false } as const;
    const input = {
      width: SIZE,
      height: SIZE,
      channels: 1 as const,
      layout: 'NHWC' as const,
      mean: [0],
      std: [1],
    };
    const architecture = { name: 'resnet', ...options };
    const about = bundleOf({ kind: 'classifier', input, architecture, labels: ['normal', 'viral'] });
    await writeBundle(dir, about, { model: exportResnet(initResnet(options, 1), options).bytes }, 'toy');
    model = { stage: 'classes', use: 'resnet', dir, folder: 'toy', bundle: await readBundle(dir), card: '' };
    engine = new Engine({ threads: () => 1 });
    gradCam = new GradCam(engine);
  });
  after(async () => {
    await gradCam.close();
    await engine.dispose();
    await rm(dirname(dir), { recursive: true, force: true });
  });

  const data = Uint8Array.from({ length: SIZE * SIZE }, (_, i) => (i * 7919) % 256);
  const image: Image = { width: SIZE, height: SIZE, channels: 1, data };

  it('draws the evidence for a label, white where it is strongest', async () => {
    const [normal, viral] = [
      await gradCam.draw(model, image, 'normal'),
      await gradCam.draw(model, image, 'viral'),
    ];
    expect([normal.width, normal.height]).to.deep.equal([SIZE, SIZE]);
    expect(Math.max(...normal.data, ...viral.data)).to.be.greaterThan(200);
    expect([...normal.data]).not.to.deep.equal([...viral.data]);
  });

  it('refuses a label that the model does not have, and a network from elsewhere', async () => {
    const unknown = await gradCam.draw(model, image, 'fracture').catch((error: unknown) => error);
    expect(unknown).to.have.property('code', 'CONTROL_REFUSED');
    const bundle = { ...model.bundle, architecture: { name: 'torchvision' } };
    const elsewhere = await gradCam
      .draw({ ...model, bundle }, image, 'viral')
      .catch((error: unknown) => error);
    expect(String(elsewhere)).to.contain("ResNet of rxray's own");
  });
});
