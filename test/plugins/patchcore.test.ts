import { expect } from 'chai';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Anomaly, Image } from '../../src/core/frame.js';
import type { BatchStage } from '../../src/core/plugin.js';
import { Engine } from '../../src/engine/index.js';
import patchcore from '../../src/plugins/patchcore.js';
import { makeFrame, stageContract } from '../../src/testing.js';
import { toyClassifier, toyPatchcore, withEngine } from '../support/bundles.js';

describe('patchcore', () => {
  let engine: Engine;
  let dir: string;
  before(async () => {
    engine = new Engine({ threads: () => 1 });
    dir = await mkdtemp(join(tmpdir(), 'rxray-patchcore-'));
    await toyPatchcore(join(dir, 'toy'));
  });
  after(async () => {
    await engine.dispose();
    await rm(dir, { recursive: true });
  });

  const open = async (bundle: string): Promise<BatchStage> => {
    const options = patchcore.options.parse({ bundle, device: 'cpu' });
    return (await patchcore.create(options, withEngine(engine, dir))) as BatchStage;
  };
  const film = (index: number) =>
    makeFrame({ name: `film-${index}.png`, seed: index, width: 32, height: 32 });

  stageContract('patchcore', () => ({
    plugin: patchcore,
    with: { bundle: join(dir, 'toy'), device: 'cpu' },
    services: withEngine(engine, dir),
    frame: film,
    tolerance: 1e-4,
  }));

  it('scores a film, says where the score stands, and shows the distances of its patches', async () => {
    const stage = await open('toy');
    const [frame] = await stage.processBatch([film(0)]);
    const result = frame?.results.model as Anomaly;
    // 8 × 8 patches.
    expect(result.rawSum).to.be.closeTo(64 * result.anomalyScore, 1e-3);
    expect(result).to.deep.include({ kind: 'anomaly', threshold: 0.9, abnormal: result.anomalyScore > 0.9 });
    expect(result.percentile).to.be.within(0, 100);
    const map = result.map as Image;
    expect(map).to.include({ width: 32, height: 32, channels: 1 });
    expect(Math.max(...map.data), 'not clipped, however far').to.be.within(1, 254);
    await stage.dispose?.();
  });

  it('names both sizes when an image has the wrong one, and refuses a bundle of another kind', async () => {
    const stage = await open('toy');
    const error = await stage.processBatch([makeFrame({ width: 64, height: 32 })]).catch((e: unknown) => e);
    expect(error).to.include({ code: 'BUNDLE_SHAPE' });
    await toyClassifier(join(dir, 'classifier'));
    expect(await open('classifier').catch((e: unknown) => e)).to.include({ code: 'BUNDLE_DAMAGED' });
  });
});
