import { expect } from 'chai';
import { augment, CHEST_AUGMENTATION, NO_AUGMENTATION } from '../../src/training/augment.js';
import { Batches } from '../../src/training/batches.js';
import { seededRandom } from '../../src/models/random.js';

describe('batches', () => {
  const side = 16;
  const films = {
    width: side,
    height: side,
    channels: 1,
    data: Uint8Array.from({ length: 6 * side * side }, (_, i) => (i * 31) % 256),
  };
  const settings = { films, augmentation: CHEST_AUGMENTATION, mixUp: 0, seed: 5 };
  const tasks = Array.from({ length: 7 }, (_, step) => ({
    epoch: 2,
    step,
    films: Uint32Array.of(step % 6, (step + 1) % 6),
  }));

  it('come in order, each film according to its seed, whatever thread made it', async () => {
    const batches = new Batches(settings, 3);
    let step = 0;
    for await (const { images } of batches.of(tasks)) {
      const expected = new Float32Array(2 * side * side);
      tasks[step]?.films.forEach((film, i) => {
        const source = films.data.subarray(film * side * side, (film + 1) * side * side);
        const target = expected.subarray(i * side * side, (i + 1) * side * side);
        augment(source, side, side, CHEST_AUGMENTATION, seededRandom(5, 2, film), target);
      });
      expect(images).to.deep.equal(expected);
      step++;
    }
    expect(step).to.equal(tasks.length);
    await batches.dispose();
  });

  it('carry the boxes of their films', async () => {
    const box = { x: 2, y: 3, width: 4, height: 5, label: 1 };
    const boxes = [[box, { ...box, x: 8, label: 0 }], [], [box], [], [], []];
    const batches = new Batches({ ...settings, augmentation: NO_AUGMENTATION, boxes }, 1);
    const made = [];
    for await (const batch of batches.of(tasks.slice(0, 2))) made.push([...batch.boxes]);
    const none = new Array<number>(5).fill(NaN);
    expect(made).to.deep.equal([
      [2, 3, 6, 8, 1, 8, 3, 12, 8, 0, ...none, ...none],
      [...none, ...none, 2, 3, 6, 8, 1, ...none],
    ]);
    await batches.dispose();
  });

  it('draw one of the versions of a film each time', async () => {
    const variants = [{ ...films, data: films.data.map((level) => 255 - level) }];
    const batches = new Batches({ ...settings, augmentation: NO_AUGMENTATION, variants }, 1);
    const film = Uint32Array.of(2);
    const epochs = Array.from({ length: 16 }, (_, epoch) => ({ epoch, step: 0, films: film }));
    const first = (films.data[2 * side * side] ?? 0) / 255;
    const seen = [];
    for await (const { images } of batches.of(epochs)) seen.push(images[0] ?? NaN);
    const inverted = seen.filter((value) => Math.abs(value - (1 - first)) < 1e-6).length;
    const plain = seen.filter((value) => Math.abs(value - first) < 1e-6).length;
    expect(plain + inverted).to.equal(epochs.length);
    expect(inverted).to.be.within(3, 13);
    await batches.dispose();
  });

  it('count how long the trainer waited, once', async () => {
    const batches = new Batches(settings, 1);
    for await (const { images } of batches.of(tasks)) expect(images).to.have.length(2 * side * side);
    expect(batches.takeWaited()).to.be.above(0);
    expect(batches.takeWaited()).to.equal(0);
    await batches.dispose();
  });

  it('may be left before their end and begun anew', async () => {
    const batches = new Batches(settings, 2);
    for await (const { images } of batches.of(tasks)) {
      expect(images[0]).to.be.a('number');
      break;
    }
    let count = 0;
    for await (const { images } of batches.of(tasks.slice(3))) count += images.length;
    expect(count).to.equal(4 * 2 * side * side);
    await batches.dispose();
  });
});
