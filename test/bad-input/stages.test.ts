import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import type { Bundle } from '../../src/models/bundle.js';
import { writeBundle } from '../../src/training/write-bundle.js';
import { exportResnet, initResnet } from '../../src/models/index.js';
import { film, greyPng } from '../support/films.js';
import { GRAPH, Lab } from '../support/lab.js';
import { endlessSegmenter, tinyModel } from '../support/onnx-models.js';

const GOOD = 'good.png';
/** A white film of 64 × 64 pixels. */
const WHITE = greyPng(
  64,
  64,
  8,
  Buffer.concat(Array(64).fill(Buffer.from([0, ...Array<number>(64).fill(255)]))),
);
const RESNET = { depth: 18, width: 2, inputSize: 64, classes: 2 } as const;

const BUNDLE: Omit<Bundle, 'files'> = {
  format: 1,
  kind: 'classifier',
  name: 'tiny',
  architecture: { name: 'resnet', ...RESNET },
  createdAt: '2026-01-01T00:00:00Z',
  rxray: '0.1.0',
  license: 'CC0-1.0',
  input: { width: 64, height: 64, channels: 1, layout: 'NHWC', mean: [0], std: [1] },
  preprocessing: [],
  labels: ['calm', 'wild'],
  metrics: {},
  data: { name: 'none', license: 'CC0-1.0', source: 'none', fingerprint: '', counts: {} },
  training: {},
};

describe('bad models and failing stages', () => {
  let lab: Lab;

  beforeEach(async () => {
    lab = await Lab.open(GRAPH, { [`inbox/${GOOD}`]: await film(64, 64).png().toBuffer() });
  });

  afterEach(() => lab.close());

  const withModel = GRAPH.replace(
    '- use: clahe',
    '- use: resnet\n    with: { bundle: ./model, device: cpu }',
  );

  it('a bundle whose ONNX file has been damaged is refused before any film is taken', async () => {
    await writeBundle(lab.path('model'), BUNDLE, { model: model() }, '');
    await lab.write('model/model.onnx', model().subarray(0, 5000));
    await lab.write('pipeline.yaml', withModel);
    const { code, stderr } = await lab.run();
    expect(code, stderr).to.equal(2);
    expect(stderr)
      .to.contain('BUNDLE_DAMAGED')
      .and.contain('model.onnx')
      .and.match(/SHA-256/);
    expect(await lab.delivered()).to.deep.equal([]);
  });

  it('a bundle whose ONNX file is something else is refused, too', async () => {
    await writeBundle(lab.path('model'), BUNDLE, { model: Buffer.from('not a network') }, '');
    await lab.write('pipeline.yaml', withModel);
    const { code, stderr } = await lab.run();
    expect(code, stderr).to.equal(2);
    expect(stderr).to.contain('BUNDLE_DAMAGED').and.contain('model');
    expect(await lab.delivered()).to.deep.equal([]);
  });

  it('a film of another size than the model was trained on fails alone, and the message says what to add', async () => {
    await writeBundle(lab.path('model'), BUNDLE, { model: model() }, '');
    await lab.write('pipeline.yaml', withModel);
    await lab.write('inbox/large.png', await film(96, 80).png().toBuffer());
    const { code, stderr } = await lab.run();
    expect(code, stderr).to.equal(1);
    expect(stderr).to.match(/large\.png.*64×64.*96×80.*resize/);
    expect(await lab.delivered()).to.deep.equal([GOOD]);
    expect((await lab.letters()).get('large.png')?.code).to.equal('BUNDLE_SHAPE');
  });

  it('a model that never answers ends the run, fails no other film, and is named', async () => {
    await writeBundle(
      lab.path('model'),
      { ...BUNDLE, input: { ...BUNDLE.input, layout: 'NCHW' }, architecture: { name: 'onnx' } },
      { model: tinyModel({ weights: [1, -1], size: 64, endlessAbove: 0.9 }).bytes },
      '',
    );
    const stage =
      '- use: resnet\n    with: { bundle: ./model, device: cpu }\n    timeoutMs: 1000\n    batch: { size: 1 }';
    await lab.write('pipeline.yaml', GRAPH.replace('- use: clahe', stage));
    await lab.write('inbox/white.png', WHITE);
    await lab.write('inbox/zoe.png', await film(64, 64).png().toBuffer());
    const { code, stderr } = await lab.run();
    // By SIGKILL: nothing else ends a thread that is inside native code.
    expect(code, stderr).to.equal(null);
    expect(stderr).to.match(/resnet has not answered for 1000 ms.*RUN_STOPPED/);
    expect([...(await lab.letters()).keys()]).to.deep.equal([]);
  });

  it('a model that never answers in a worker thread fails its film, and the run ends', async () => {
    await writeBundle(
      lab.path('model'),
      { ...BUNDLE, kind: 'segmenter', labels: [], architecture: { name: 'onnx' } },
      { model: endlessSegmenter(64, 0.99) },
      '',
    );
    const stage = '- use: unet\n    with: { bundle: ./model }\n    timeoutMs: 3000';
    await lab.write('pipeline.yaml', GRAPH.replace('- use: clahe', stage));
    await lab.write('inbox/white.png', WHITE);
    await lab.write('inbox/zoe.png', await film(64, 64).png().toBuffer());
    const { code, stderr } = await lab.run();
    expect(stderr).to.match(/white\.png.*unet.*3000 ms/);
    expect([...(await lab.letters()).keys()]).to.deep.equal(['white.png']);
    expect((await lab.delivered()).sort()).to.deep.equal([GOOD, 'zoe.png']);
    expect(code).to.equal(null);
  });

  it('a network in a worker thread that is slower than its limit does not end the process', async () => {
    const bundle = fileURLToPath(new URL('../../models/chest-lungs', import.meta.url));
    const stage = `- use: unet\n    with: { bundle: ${JSON.stringify(bundle)} }\n    timeoutMs: 1`;
    await lab.write('pipeline.yaml', GRAPH.replace('- use: clahe', stage));
    const names = Array.from({ length: 40 }, (_, i) => `film-${i}.png`);
    for (const name of names) await lab.write(`inbox/${name}`, await film(128, 128).png().toBuffer());
    const { code, stderr } = await lab.run();
    expect(code, stderr).to.equal(0);
    expect((await lab.delivered()).sort()).to.deep.equal([GOOD, ...names].sort());
  });

  it('a stage that throws fails only the film it threw on, which can be repeated', async () => {
    await lab.write(
      'stage.ts',
      `import { defineStage, imageOf } from 'rxray';
       import { z } from 'zod';
       export default defineStage({
         name: 'small-only', summary: 'Refuses wide films.', options: z.strictObject({}),
         create: () => ({
           process(frame) {
             console.log('a plugin prints');
             if (imageOf(frame).width > 90) throw new Error('this film is too wide for me');
             return frame;
           },
         }),
       });`,
    );
    await lab.write('pipeline.yaml', GRAPH.replace('- use: clahe', '- id: strict\n    use: ./stage.ts'));
    const wide = await film(96, 80).png().toBuffer();
    await lab.write('inbox/wide.png', wide);
    const { code, stdout, stderr } = await lab.run();
    expect(code, stderr).to.equal(1);
    // Standard output is for results.
    expect(stderr).to.contain('a plugin prints');
    expect(stdout).not.to.contain('a plugin prints');
    expect(stderr).to.match(/wide\.png.*strict: this film is too wide for me.*FRAME_STAGE/);
    expect(await lab.delivered()).to.deep.equal([GOOD]);
    expect((await lab.letters()).get('wide.png')).to.deep.include({ stage: 'strict', copy: wide });
    expect(await readFile(lab.path('inbox/wide.png'))).to.deep.equal(wide);
  });
});

function model(): Uint8Array {
  return exportResnet(initResnet(RESNET, 1), RESNET).bytes;
}
