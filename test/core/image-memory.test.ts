import { expect } from 'chai';
import { copyOf, reusingImageMemory } from '../../src/core/image-memory.js';

const SIZE = 100_000;
const film = (value: number): Uint8Array => new Uint8Array(SIZE).fill(value);

describe('memory for the images of one piece of work', () => {
  it('is used again by the next work, and an image that is still held is then empty', async () => {
    const kept: Uint8Array[] = [];
    let deep: Uint16Array | undefined;
    for (const value of [1, 2, 3]) {
      const sums = await reusingImageMemory(async () => {
        const [one, other] = [copyOf(film(value)), copyOf(film(10 * value))];
        expect(one.buffer).not.to.equal(other.buffer);
        kept.push(one, other);
        await Promise.resolve();
        return [one, other].map((image) => image.reduce((sum, sample) => sum + sample, 0));
      });
      expect(sums).to.deep.equal([value * SIZE, 10 * value * SIZE]);
      expect(kept.map(({ length }) => length)).to.deep.equal(kept.map(() => 0));
    }
    await reusingImageMemory(() => {
      deep = copyOf(new Uint16Array(SIZE / 2 - 1).fill(65_535));
      expect(deep.buffer.byteLength, 'of an image of before').to.equal(SIZE);
      expect([...new Set(deep)], 'its own samples alone').to.deep.equal([65_535]);
      expect(deep).to.have.length(SIZE / 2 - 1);
      return Promise.resolve();
    });
    expect(deep).to.have.length(0);
  });

  it('is returned by work that fails, too', async () => {
    let held: Uint8Array | undefined;
    const failing = reusingImageMemory(() => {
      held = copyOf(film(1));
      return Promise.reject(new Error('the stage failed'));
    });
    expect(await failing.catch((error: unknown) => String(error))).to.equal('Error: the stage failed');
    expect(held).to.have.length(0);
  });

  it('is the image’s own outside of such work, and for small images', async () => {
    const own = copyOf(film(7));
    const small = await reusingImageMemory(() => Promise.resolve(copyOf(new Uint8Array(9).fill(8))));
    await reusingImageMemory(() => Promise.resolve(copyOf(film(1)).length));
    expect([own.length, own.buffer.byteLength, own[SIZE - 1]]).to.deep.equal([SIZE, SIZE, 7]);
    expect([...small]).to.deep.equal(Array(9).fill(8));
  });
});
