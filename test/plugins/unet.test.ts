import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Frame, Image } from '../../src/core/frame.js';
import type { FrameStage } from '../../src/core/plugin.js';
import crop from '../../src/plugins/crop.js';
import mask from '../../src/plugins/mask.js';
import unet, { type Segmentation } from '../../src/plugins/unet.js';
import { makeFrame, testServices } from '../../src/testing.js';
import { toyClassifier, toySegmenter } from '../support/bundles.js';

/** Two dark lungs on a bright film of any size; `lungs: 1` leaves the right one out. */
function chest(width: number, height: number, lungs = 2): Frame {
  const data = new Uint8Array(width * height).fill(200);
  const boxes = [
    [0.2, 0.25],
    [0.6, 0.25],
  ].slice(0, lungs);
  for (const [x = 0, y = 0] of boxes) {
    for (let row = Math.round(y * height); row < Math.round((y + 0.5) * height); row++) {
      data.fill(20, row * width + Math.round(x * width), row * width + Math.round((x + 0.2) * width));
    }
  }
  return { ...makeFrame({ name: 'chest.png' }), image: { width, height, channels: 1, data } };
}

describe('the stage unet', () => {
  let dir: string;
  let stage: FrameStage;
  const make = async (plugin: typeof unet, settings: object, id: string): Promise<FrameStage> =>
    (await plugin.create(plugin.options.parse(settings), testServices({ id, baseDir: dir }))) as FrameStage;
  const through = async (frame: Frame, ...others: FrameStage[]): Promise<Frame> => {
    let result = await stage.process(frame);
    for (const other of others) result = await other.process(result);
    return result;
  };

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-unet-'));
    await toySegmenter(join(dir, 'lungs'), 0.4);
    stage = await make(unet, { bundle: 'lungs' }, 'lungs');
  });
  after(async () => {
    await stage.dispose?.();
    await rm(dir, { recursive: true });
  });

  it('finds both lungs in pixels of the film that it is given, and leaves the film as it is', async () => {
    const film = chest(320, 160);
    const made = await through(film);
    expect(made.image).to.equal(film.image);
    const found = made.results.lungs as unknown as Segmentation;
    expect(found).to.deep.include({ kind: 'segmentation', plausible: true, reason: '' });
    expect(found.film).to.deep.equal({ width: 320, height: 160 });
    expect(found.left?.box).to.deep.equal({ x: 60, y: 40, width: 70, height: 80 });
    expect(found.right?.centroid.x).to.be.closeTo(0.7 * 320, 5);
    expect(found.areaFraction).to.be.closeTo(0.2, 0.03);
    expect(found.mask).to.include({ width: 32, height: 32, channels: 1 });
    expect(found.rle.size).to.deep.equal([32, 32]);
  });

  it('says of a film with one lung why it is not plausible', async () => {
    const found = (await through(chest(64, 64, 1))).results.lungs as unknown as Segmentation;
    expect(found).to.include({ plausible: false, reason: 'only one lung was found' });
    expect(found.right).to.equal(null);
  });

  it('takes colour and 16 bit', async () => {
    const film = chest(64, 64);
    const { data, ...size } = film.image as Image;
    const wide = Uint16Array.from(data, (level) => level * 257);
    const rgb = Uint8Array.from({ length: data.length * 3 }, (_, i) => data[Math.floor(i / 3)] ?? 0);
    const results = await Promise.all([
      through(film),
      through({ ...film, image: { ...size, data: wide } }),
      through({ ...film, image: { ...size, channels: 3, data: rgb } }),
    ]);
    const [first, ...others] = results.map((frame) => frame.results.lungs);
    for (const other of others) expect(other).to.deep.equal(first);
  });

  it('refuses a bundle of another kind, and a graph with other preprocessing', async () => {
    await toyClassifier(join(dir, 'classifier'));
    const error = await make(unet, { bundle: 'classifier' }, 'lungs').catch((e: unknown) => e);
    expect(error).to.include({ code: 'BUNDLE_DAMAGED' });
    const lint = async (...preceding: { use: string; with: unknown }[]): Promise<string[]> => {
      const settings = unet.options.parse({ bundle: 'lungs' }) as never;
      const messages = await unet.lint?.(settings, { baseDir: dir, preceding });
      return (messages ?? []).map(({ message }) => message);
    };
    const decode = { use: 'decode', with: {} };
    expect(await lint(decode)).to.deep.equal([]);
    expect(await lint(decode, { use: 'resize', with: { width: 32, height: 32 } })).to.deep.equal([]);
    expect((await lint(decode, { use: 'clahe', with: {} }))[0]).to.include('was trained without `clahe`');
  });

  describe('before crop', () => {
    it('has the lungs cut out with their proportions, black beyond the film', async () => {
      const cut = await make(crop, { to: 'lungs', margin: 0.1 }, 'cut');
      const made = await through(chest(320, 160), cut);
      expect(made.image).to.include({ width: 240, height: 240 });
      expect(made.results.cut).to.deep.equal({
        kind: 'crop',
        cropped: true,
        box: { x: 40, y: -40, width: 240, height: 240 },
        reason: '',
      });
      const { data } = made.image as Image;
      expect(data[0], 'above the film').to.equal(0);
      expect(data[120 * 240 + 30], 'the left lung').to.equal(20);
      const close = await make(crop, { to: 'lungs', margin: 0, square: false }, 'cut');
      expect((await through(chest(320, 160), close)).image).to.include({ width: 200, height: 80 });
    });

    it('leaves an implausible film uncut, and says so', async () => {
      const cut = await make(crop, { to: 'lungs' }, 'cut');
      const film = chest(64, 64, 1);
      const made = await through(film, cut);
      expect(made.image).to.equal(film.image);
      expect(made.results.cut).to.include({ cropped: false, reason: 'only one lung was found' });
    });

    it('fails where there is no mask, or where the film has been cut since', async () => {
      const cut = await make(crop, { to: 'lungs' }, 'cut');
      const smaller = await make(crop, { width: 20 }, 'smaller');
      await expectFailure(async () => cut.process(chest(64, 64)), 'there is no lung mask "lungs"');
      await expectFailure(
        () => through(chest(64, 64), smaller, cut),
        'made for 64×64 pixels, the image has 20×64',
      );
    });
  });

  it('before mask, blackens what is not lung, or the lungs', async () => {
    const film = chest(64, 64);
    const inside = await through(film, await make(mask, { with: 'lungs' }, 'alone'));
    const outside = await through(film, await make(mask, { with: 'lungs', keep: 'outside' }, 'alone'));
    expect([inside, outside].map((frame) => frame.image?.data[0])).to.deep.equal([0, 200]);
    const lung = 32 * 64 + 18;
    expect([inside, outside].map((frame) => frame.image?.data[lung])).to.deep.equal([20, 0]);
    expect(inside.results.alone).to.deep.equal({ kind: 'mask', masked: true, reason: '' });
    const one = chest(64, 64, 1);
    const passed = await through(one, await make(mask, { with: 'lungs' }, 'alone'));
    expect(passed.image).to.equal(one.image);
    expect(passed.results.alone).to.include({ masked: false });
  });
});

async function expectFailure(work: () => Promise<unknown>, message: string): Promise<void> {
  const error = await work().catch((e: unknown) => e);
  expect((error as Error).message).to.include(message);
}
