import { expect } from 'chai';
import type { PrecedingStage } from '../../src/core/plugin.js';
import crop, { cropPart } from '../../src/plugins/crop.js';
import { cropReplicated } from '../../src/imaging/image.js';
import { noise } from '../support/goldens.js';

describe('crop', () => {
  const image = {
    width: 4,
    height: 3,
    channels: 1 as const,
    data: Uint8Array.from({ length: 12 }, (_, i) => i),
  };

  it('cuts out pixels, up to the edges where there is no size', () => {
    const part = cropPart(image, { x: 1, y: 1, width: 2, height: 1, unit: 'pixels' });
    expect(part).to.deep.equal({ width: 2, height: 1, channels: 1, data: Uint8Array.of(5, 6) });
    expect([...cropPart(image, { x: 2, y: 1, unit: 'pixels' }).data]).to.deep.equal([6, 7, 10, 11]);
  });

  it('cuts out fractions of any size, in colour, too', () => {
    const part = cropPart(noise(50, 40, '16', 3), {
      x: 0.1,
      y: 0.1,
      width: 0.8,
      height: 0.5,
      unit: 'fraction',
    });
    expect([part.width, part.height, part.channels]).to.deep.equal([40, 20, 3]);
    expect(part.data).to.be.instanceOf(Uint16Array);
    expect(part.data[0]).to.equal(noise(50, 40, '16', 3).data[(4 * 50 + 5) * 3]);
  });

  it('repeats the pixels of the edge outside the film', () => {
    const box = { x: -1, y: -2, width: 6, height: 4 };
    const rows = [0, 0, 0, 4].map((first) => [first, first, first + 1, first + 2, first + 3, first + 3]);
    expect([...cropReplicated(image, box).data]).to.deep.equal(rows.flat());
    const colour = noise(9, 7, '16', 3);
    expect(cropReplicated(colour, { x: 0, y: 0, width: 9, height: 7 })).to.deep.equal(colour);
  });

  it('refuses a region that is not inside the image', () => {
    expect(() => cropPart(image, { x: 2, y: 0, width: 3, height: 1, unit: 'pixels' })).to.throw(
      'cannot crop 3 × 1 pixels at (2, 0) out of an image of 4 × 3',
    );
    expect(crop.options.safeParse({ x: 0.5, width: 0.6, unit: 'fraction' }).success).to.equal(false);
  });

  it('says before a run where the mask of no `unet` stage fits', async () => {
    const lint = (...preceding: PrecedingStage[]): unknown =>
      crop.lint?.(crop.options.parse({ to: 'lungs' }), { baseDir: '/', preceding });
    const stage = (use: string, id = use): PrecedingStage => ({ id, use, with: {} });
    const error = (message: string): object[] => [{ severity: 'error', option: ['to'], message }];
    expect(lint(stage('decode'), stage('unet', 'lungs'))).to.deep.equal([]);
    expect(lint(stage('unet', 'a'), stage('join'))).to.deep.equal([]);
    expect(lint(stage('decode'))).to.deep.equal(error('no stage `unet` before this one has the id "lungs"'));
    expect(lint(stage('unet'))).to.deep.equal(
      error('no stage `unet` before this one has the id "lungs" (there is `unet`)'),
    );
    expect(lint(stage('unet', 'lung'))).to.deep.equal(
      error('no stage `unet` before this one has the id "lungs", did you mean `lung`?'),
    );
    expect(lint(stage('unet', 'lungs'), stage('resize'))).to.deep.equal(
      error('the mask of "lungs" does not fit any more behind `resize`: put this stage before it'),
    );
  });
});
