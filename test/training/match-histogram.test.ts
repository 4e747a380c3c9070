import { expect } from 'chai';
import { seededRandom } from '../../src/models/random.js';
import { filmOfBatch, matchHistogram } from '../../src/training/match-histogram.js';
import type { PreparedFilms } from '../../src/training/preprocess.js';

describe('histogram matching', () => {
  // The expected values are those of match_histograms in scikit-image 0.26, rounded.
  it('gives an image of 8 bits the grey levels of another', () => {
    const source = Uint8Array.of(10, 10, 20, 30, 30, 30, 40, 200);
    const reference = Uint8Array.of(0, 0, 50, 50, 50, 100, 100, 250);
    expect([...matchHistogram(source, reference)]).to.deep.equal([0, 0, 17, 75, 75, 75, 100, 250]);
  });

  it('gives an image of 16 bits the grey levels of another', () => {
    const matched = matchHistogram(
      Uint16Array.of(0, 1000, 1000, 65535),
      Uint16Array.of(5, 300, 40000, 50000),
    );
    expect([...matched]).to.deep.equal([5, 40000, 40000, 50000]);
  });

  it('changes nothing where both images are the same', () => {
    const random = seededRandom(1);
    const image = Uint8Array.from({ length: 4096 }, () => 256 * random() ** 2);
    expect(matchHistogram(image, image)).to.deep.equal(image);
  });

  it('makes a plain image as bright as the brightest pixel of the other', () => {
    expect([...matchHistogram(Uint8Array.of(7, 7, 7), Uint8Array.of(1, 90, 200))]).to.deep.equal([
      200, 200, 200,
    ]);
  });

  it('takes the levels of films of the batch only, as often as it is told', () => {
    const side = 8;
    const data = new Uint8Array(3 * side * side);
    for (const film of [0, 1, 2]) {
      for (let i = 0; i < side * side; i++) data[film * side * side + i] = 80 * film + (i % 16);
    }
    const films = { data, width: side, height: side, channels: 1, count: 3 } as unknown as PreparedFilms;
    const counts = new Map<number, number>();
    for (let seed = 0; seed < 400; seed++) {
      const [first = 0] = filmOfBatch(films, 0, [0, 1], { histogram: 0.5 }, seededRandom(seed));
      counts.set(first, (counts.get(first) ?? 0) + 1);
    }
    expect([...counts.keys()].sort((a, b) => a - b)).to.deep.equal([0, 80]);
    expect(counts.get(80)).to.be.within(70, 130);
    expect(filmOfBatch(films, 2, [0, 1], { histogram: 0 }, seededRandom(1))[0]).to.equal(160);
  });
});
