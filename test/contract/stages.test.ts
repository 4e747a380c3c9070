import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import sharp from 'sharp';
import { loadPluginModule } from '../../src/core/plugins/load.js';
import type { PluginOf } from '../../src/core/plugin.js';
import clahe from '../../src/plugins/clahe.js';
import crop from '../../src/plugins/crop.js';
import equalize from '../../src/plugins/equalize.js';
import decode from '../../src/plugins/decode.js';
import mask from '../../src/plugins/mask.js';
import join from '../../src/plugins/join.js';
import normalize from '../../src/plugins/normalize.js';
import resize from '../../src/plugins/resize.js';
import type { Frame } from '../../src/core/frame.js';
import { segmentation } from '../../src/plugins/unet.js';
import { makeFrame, stageContract, type FrameOptions } from '../../src/testing.js';

/** Frames of one size that differ in their pixels. */
const films =
  (options: FrameOptions = {}) =>
  (index: number) =>
    makeFrame({ name: `film-${index}.png`, seed: index, width: 40, height: 32, ...options });

for (const type of ['uint8', 'uint16'] as const) {
  stageContract(`clahe, ${type}`, () => ({
    plugin: clahe,
    with: { clipLimit: 2, tileGridSize: 4 },
    refused: [{ clipLimit: 0 }, { tileGridSize: 0 }, { tileGridSize: 2.5 }],
    frame: films({ type }),
  }));

  stageContract(`resize, ${type}`, () => ({
    plugin: resize,
    with: { width: 20, height: 20 },
    refused: [{}, { width: 0, height: 20 }, { width: 20, height: 20, interpolation: 'magic' }],
    frame: films({ type }),
  }));
}

stageContract('equalize', () => ({
  plugin: equalize,
  with: {},
  refused: [{ clipLimit: 2 }],
  frame: films({ type: 'uint16' }),
}));

stageContract('crop', () => ({
  plugin: crop,
  with: { x: 4, y: 4, width: 16, height: 16, unit: 'pixels' },
  refused: [{ x: -1 }, { width: 0 }, { unit: 'miles' }, { to: 'lungs', x: 4 }],
  frame: films(),
}));

/** Frames on which a `unet` stage called "lungs" has found two lungs. */
const withLungs = (index: number): Frame => {
  const frame = films()(index);
  const probabilities = new Float32Array(16 * 16);
  for (let y = 3; y < 13; y++) {
    for (const x of [2, 3, 4, 5, 10, 11, 12, 13]) probabilities[y * 16 + x] = 1;
  }
  const input = { width: 16, height: 16, channels: 1, layout: 'NHWC', mean: [0], std: [1] } as const;
  const size = { width: 40, height: 32 };
  const result = segmentation(probabilities, { input: { ...input, mean: [0], std: [1] } }, size, 0.5);
  return { ...frame, results: { lungs: result } };
};

stageContract('crop to the lungs', () => ({
  plugin: crop,
  with: { to: 'lungs' },
  refused: [
    { to: 'lungs', margin: -1 },
    { to: 'lungs', border: 'mirror' },
  ],
  frame: withLungs,
}));

stageContract('mask', () => ({
  plugin: mask,
  with: { with: 'lungs' },
  refused: [{}, { with: 'lungs', keep: 'both' }],
  frame: withLungs,
}));

stageContract('normalize', () => ({
  plugin: normalize,
  with: {},
  frame: films({ channels: 3 }),
}));

stageContract('join', () => ({ plugin: join, faulty: () => null }));

describe('the pixels that a PNG file holds', () => {
  // encoded once: the contract asks for the same frame again and again
  const files: Buffer[] = [];
  before(async () => {
    for (let index = 0; index < 3; index++) {
      const { image } = films()(index);
      if (image === undefined) throw new Error('expected pixels');
      const { width, height, channels, data } = image;
      files.push(await sharp(data, { raw: { width, height, channels } }).png().toBuffer());
    }
  });

  stageContract('decode', () => ({
    plugin: decode,
    with: {},
    refused: [{ color: 'blue' }, { maxPixels: 0 }],
    frame: (index) => ({
      ...makeFrame({ name: `film-${index}.png`, seed: index, image: null }),
      encoded: files[index]!,
    }),
    faulty: () => ({ ...makeFrame({ name: 'text.png', image: null }), encoded: Buffer.from('not an image') }),
  }));
});

describe('the example stage in examples/stages', () => {
  let invert: PluginOf<'stage'>;
  before(async () => {
    const plugin = await loadPluginModule(new URL('../../examples/stages/invert.ts', import.meta.url).href);
    expect(plugin.kind).to.equal('stage');
    invert = plugin as PluginOf<'stage'>;
  });
  it('is the one in the docs', async () => {
    const [docs, code] = await Promise.all([
      readFile(new URL('../../docs/writing-plugins.md', import.meta.url), 'utf8'),
      readFile(new URL('../../examples/stages/invert.ts', import.meta.url), 'utf8'),
    ]);
    expect(docs).to.contain(code);
  });
  stageContract('invert', () => ({ plugin: invert, refused: [{ maximum: 0 }] }));
});
