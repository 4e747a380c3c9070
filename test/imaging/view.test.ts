import { expect } from 'chai';
import { imageOf, checkMade, type Frame, type Image } from '../../src/core/frame.js';
import type { FrameStage } from '../../src/core/plugin.js';
import { fromFilm, toFilm, viewOf } from '../../src/imaging/view.js';
import crop from '../../src/plugins/crop.js';
import resize from '../../src/plugins/resize.js';
import { makeFrame, testServices } from '../../src/testing.js';

/** A dark film with a bright rectangle. */
const BOX = { x: 60, y: 40, width: 40, height: 20 };
function film(): Frame {
  const data = new Uint8Array(200 * 120);
  for (let y = BOX.y; y < BOX.y + BOX.height; y++)
    data.fill(255, y * 200 + BOX.x, y * 200 + BOX.x + BOX.width);
  return { ...makeFrame({ name: 'film.png' }), image: { width: 200, height: 120, channels: 1, data } };
}

/** The rectangle around the bright pixels. */
function brightBox({ width, data }: Image): typeof BOX {
  const lit = [...data.keys()].filter((i) => (data[i] ?? 0) > 127);
  const [xs, ys] = [lit.map((i) => i % width), lit.map((i) => Math.floor(i / width))];
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  return { x, y, width: Math.max(...xs) + 1 - x, height: Math.max(...ys) + 1 - y };
}

describe('the view of a film', () => {
  type Step = readonly ['crop' | 'resize', object];
  async function through(...steps: readonly Step[]): Promise<Frame> {
    let frame = film();
    for (const [use, settings] of steps) {
      const plugin = use === 'crop' ? crop : resize;
      const parsed = plugin.options.parse(settings) as never;
      const stage = (await plugin.create(parsed, testServices({ id: use }))) as FrameStage;
      frame = await stage.process(frame);
    }
    return frame;
  }

  const chains: Record<string, readonly Step[]> = {
    nothing: [],
    'resize, stretched': [['resize', { width: 50, height: 60 }]],
    'resize, contained': [['resize', { width: 100, height: 100, fit: 'contain' }]],
    'resize, covered': [['resize', { width: 90, height: 90, fit: 'cover' }]],
    crop: [['crop', { x: 30, y: 20, width: 120, height: 90 }]],
    'several of them': [
      ['crop', { x: 0.1, y: 0.1, width: 0.8, height: 0.8, unit: 'fraction' }],
      ['resize', { width: 80, height: 120, fit: 'contain' }],
      ['crop', { y: 10, height: 100 }],
      ['resize', { width: 100, height: 90, fit: 'cover' }],
    ],
  };
  for (const [title, steps] of Object.entries(chains)) {
    it(`converts positions to the film, and back: ${title}`, async () => {
      const frame = await through(...steps);
      const image = imageOf(frame);
      const view = viewOf(image, frame.view);
      expect(view.film).to.deep.equal({ width: 200, height: 120 });
      const seen = brightBox(image);
      const pixel = toFilm({ x: 0, y: 0, width: 1, height: 1 }, image, view);
      const there = toFilm(seen, image, view);
      const back = fromFilm(BOX, image, view);
      for (const key of ['x', 'y', 'width', 'height'] as const) {
        expect(there[key], key).to.be.closeTo(BOX[key], 1.1 * Math.max(pixel.width, pixel.height));
        expect(back[key], key).to.be.closeTo(seen[key], 1.1);
      }
    });
  }

  it('is not known once a stage that does not set it has changed the size', async () => {
    const given = await through(['resize', { width: 50, height: 60 }]);
    const other: Image = { width: 10, height: 10, channels: 1, data: new Uint8Array(100) };
    expect(checkMade({ ...given, image: other }, given)).not.to.have.property('view');
    const same = { ...given, image: { ...imageOf(given), data: imageOf(given).data.slice() } };
    expect(checkMade(same, given).view).to.equal(given.view);
  });
});
