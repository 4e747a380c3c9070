import { expect } from 'chai';
import sharp from 'sharp';
import { Pictures, type Picture } from '../../src/control/pictures.js';
import type { WorklistFilm } from '../../src/control/worklist.js';
import type { Frame } from '../../src/core/frame.js';
import { makeFrame } from '../../src/testing.js';

describe('pictures of films', () => {
  const film = { id: 'a', sha256: 'b' } as WorklistFilm;
  const sized = (size: number): Frame =>
    makeFrame({ image: { width: size, height: size, channels: 1, data: new Uint8Array(size * size) } });
  const widthOf = async (picture: Picture | null): Promise<number | undefined> =>
    (await sharp(picture?.data).metadata()).width;

  it('are those of the present graph, and are made once for it', async () => {
    let graph = {};
    let made = 0;
    let size = 8;
    const pictures = new Pictures(
      () => {
        made += 1;
        const frame = sized(size);
        return Promise.resolve(() => Promise.resolve(frame));
      },
      () => graph,
    );
    for (const next of [8, 4]) {
      size = next;
      graph = {};
      for (let i = 0; i < 2; i++) expect(await widthOf(await pictures.stage(film, 'prep'))).to.equal(next);
      expect((await pictures.pixels(film, 'prep'))?.image.width).to.equal(next);
      expect(await widthOf(await pictures.thumbnail(film, ['prep']))).to.equal(next);
    }
    expect(made).to.equal(2);
    pictures.close();
  });

  it('are not kept when another graph has taken over while they were made', async () => {
    let graph = {};
    let size = 8;
    const pictures = new Pictures(
      () => Promise.resolve(() => Promise.resolve(sized(size))),
      () => graph,
    );
    const old = pictures.stage(film, 'prep');
    graph = {};
    await old;
    size = 4;
    expect(await widthOf(await pictures.stage(film, 'prep'))).to.equal(4);
    pictures.close();
  });
});
