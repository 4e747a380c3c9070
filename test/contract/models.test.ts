import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Engine } from '../../src/engine/index.js';
import anogan from '../../src/plugins/anogan.js';
import resnet from '../../src/plugins/resnet.js';
import { makeFrame, stageContract, type TestServicesOptions } from '../../src/testing.js';
import { toyAnogan, toyClassifier } from '../support/bundles.js';

describe('stages with a model', () => {
  let folder: string;
  let engine: Engine;

  before(async () => {
    engine = new Engine();
    folder = await mkdtemp(join(tmpdir(), 'rxray-models-'));
    await toyClassifier(join(folder, 'resnet'));
    await toyAnogan(join(folder, 'anogan'));
  });
  after(async () => {
    await engine.dispose();
    await rm(folder, { recursive: true });
  });

  const services: TestServicesOptions = { get: () => engine as never };
  const frames = (size: number) => (index: number) =>
    makeFrame({ name: `film-${index}.png`, seed: index, width: size, height: size });
  const wrongSize = () => makeFrame({ width: 16, height: 16 });

  stageContract('resnet', () => ({
    plugin: resnet,
    with: { bundle: join(folder, 'resnet') },
    services,
    refused: [{}, { bundle: join(folder, 'anogan') }, { bundle: folder }, { bundle: folder, topK: 0 }],
    frame: frames(32),
    faulty: wrongSize,
    tolerance: 1e-4,
  }));

  stageContract('anogan', () => ({
    plugin: anogan,
    with: { bundle: join(folder, 'anogan') },
    services,
    refused: [{}, { bundle: join(folder, 'resnet') }, { bundle: folder }, { bundle: folder, lambda: 2 }],
    frame: frames(64),
    faulty: wrongSize,
    tolerance: 1e-4,
  }));
});
