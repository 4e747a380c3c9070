import { expect } from 'chai';
import fc from 'fast-check';
import {
  augment,
  mix,
  mixShares,
  movedBox,
  CHEST_AUGMENTATION,
  NO_AUGMENTATION,
  type Augmentation,
} from '../../src/training/augment.js';
import { seededRandom } from '../../src/models/random.js';

/** A film with a bright square left of the middle. */
function film(width = 32, height = 32): Uint8Array {
  const data = new Uint8Array(width * height).fill(40);
  for (let y = 10; y < 20; y++) data.fill(200, y * width + 6, y * width + 14);
  return data;
}

function run(
  settings: Partial<Augmentation>,
  seed = 1,
  source: Uint8Array | Uint16Array = film(),
): Float32Array {
  const target = new Float32Array(source.length);
  augment(source, 32, 32, { ...NO_AUGMENTATION, ...settings }, seededRandom(seed), target);
  return target;
}

function centre(image: Float32Array): { x: number; y: number; mass: number } {
  let mass = 0;
  let x = 0;
  let y = 0;
  image.forEach((value, i) => {
    const over = Math.max(0, value - 0.3);
    mass += over;
    x += over * (i % 32);
    y += over * Math.floor(i / 32);
  });
  return { x: x / mass, y: y / mass, mass };
}

describe('augmentation', () => {
  it('moves boxes with what is in them', () => {
    const data = new Uint8Array(64 * 64);
    // A disc of radius 9 around (26, 30): the box's ellipse.
    data.forEach((_, i) => {
      data[i] = Math.hypot((i % 64) + 0.5 - 26, Math.floor(i / 64) + 0.5 - 30) < 9 ? 255 : 0;
    });
    const settings = {
      ...NO_AUGMENTATION,
      rotate: 20,
      shear: 10,
      shift: 0.1,
      zoom: 0.4,
      aspect: 0.4,
      flip: 0.5,
    };
    for (let seed = 1; seed <= 20; seed++) {
      const target = new Float32Array(64 * 64);
      const map = augment(data, 64, 64, settings, seededRandom(seed), target);
      const box = movedBox({ x: 17, y: 21, width: 18, height: 18 }, 64, 64, map);
      const lit = [...target.keys()].filter((i) => (target[i] ?? 0) > 0.5);
      const [xs, ys] = [lit.map((i) => i % 64), lit.map((i) => Math.floor(i / 64))];
      expect(box?.x).to.be.closeTo(Math.min(...xs), 1);
      expect(box?.y).to.be.closeTo(Math.min(...ys), 1);
      expect((box?.x ?? 0) + (box?.width ?? 0)).to.be.closeTo(Math.max(...xs) + 1, 1);
      expect((box?.y ?? 0) + (box?.height ?? 0)).to.be.closeTo(Math.max(...ys) + 1, 1);
    }
  });

  it('cuts boxes at the edge, and drops those of which little is left', () => {
    const right = (dx: number) => ({ xx: 1, xy: 0, yx: 0, yy: 1, dx: -dx, dy: 0 });
    const box = { x: 50, y: 10, width: 10, height: 10 };
    expect(movedBox(box, 64, 64, right(0))).to.deep.equal(box);
    expect(movedBox(box, 64, 64, right(9))).to.deep.equal({ x: 59, y: 10, width: 5, height: 10 });
    expect(movedBox(box, 64, 64, right(11))).to.equal(undefined);
  });

  it('varies a 16-bit film as an 8-bit one', () => {
    const deep = Uint16Array.from(film(), (sample) => sample * 257);
    expect(run(CHEST_AUGMENTATION, 3, deep)).to.deep.equal(run(CHEST_AUGMENTATION, 3));
    expect(
      run(
        {},
        1,
        Uint16Array.from(deep, (sample) => sample + 1),
      )[0],
    ).to.equal(Math.fround((40 * 257 + 1) / 65535));
  });

  it('with everything off only scales to 0–1', () => {
    expect(run({})).to.deep.equal(Float32Array.from(film(), (v) => v / 255));
  });

  it('draws the same for the same seed, and something else for another', () => {
    expect(run(CHEST_AUGMENTATION, 7)).to.deep.equal(run(CHEST_AUGMENTATION, 7));
    expect(run(CHEST_AUGMENTATION, 7)).to.not.deep.equal(run(CHEST_AUGMENTATION, 8));
  });

  it('mirrors exactly', () => {
    const mirrored = run({ flip: 1 });
    const plain = run({});
    for (let y = 0; y < 32; y++) {
      expect([...mirrored.subarray(y * 32, y * 32 + 32)]).to.deep.equal(
        [...plain.subarray(y * 32, y * 32 + 32)].reverse(),
      );
    }
  });

  it('shifts within its range', () => {
    const before = centre(run({}));
    for (let seed = 1; seed < 20; seed++) {
      const after = centre(run({ shift: 0.1 }, seed));
      expect(Math.abs(after.x - before.x)).to.be.below(3.3);
      expect(Math.abs(after.y - before.y)).to.be.below(3.3);
    }
  });

  it('turns about the centre: the distance from it stays', () => {
    const distance = ({ x, y }: { x: number; y: number }) => Math.hypot(x - 15.5, y - 15.5);
    const before = centre(run({}));
    const moved: number[] = [];
    for (let seed = 1; seed < 10; seed++) {
      const after = centre(run({ rotate: 40 }, seed));
      moved.push(Math.hypot(after.x - before.x, after.y - before.y));
      expect(distance(after)).to.be.closeTo(distance(before), 0.2);
    }
    expect(Math.max(...moved)).to.be.above(1);
  });

  it('changes the aspect ratio but not the area, and zooms the area', () => {
    const mass = centre(run({})).mass;
    for (let seed = 1; seed < 10; seed++) {
      expect(centre(run({ aspect: 0.3 }, seed)).mass / mass).to.be.closeTo(1, 0.12);
      expect(centre(run({ zoom: 0.3 }, seed)).mass / mass).to.be.within(1 / 1.85, 1.85);
    }
  });

  it('cuts a mid-grey square out', () => {
    const plain = run({});
    const sizes: number[] = [];
    for (let seed = 1; seed < 10; seed++) {
      const changed = run({ cutOut: 0.5 }, seed).filter((value, i) => value !== plain[i]);
      sizes.push(changed.length);
      expect([...changed].every((value) => value === 0.5)).to.equal(true);
    }
    expect(Math.max(...sizes)).to.be.within(50, 17 * 17);
  });

  it('adds noise that has no mean and at most the standard deviation that was asked for', () => {
    const plain = run({});
    const deviations: number[] = [];
    for (let seed = 1; seed < 10; seed++) {
      const added = Array.from(run({ noise: 0.05 }, seed), (value, i) => value - (plain[i] ?? 0));
      const mean = added.reduce((a, b) => a + b, 0) / added.length;
      expect(mean).to.be.closeTo(0, 0.005);
      deviations.push(Math.sqrt(added.reduce((sum, x) => sum + (x - mean) ** 2, 0) / added.length));
    }
    expect(Math.max(...deviations)).to.be.within(0.025, 0.052);
  });

  it('multiplies by the brightness range, as Keras does', () => {
    const plain = run({});
    const dark = run({ brightnessRange: [0.2, 0.2] });
    dark.forEach((value, i) => {
      expect(value).to.be.closeTo(0.2 * (plain[i] ?? 0), 1e-6);
    });
    const factors = [1, 2, 3, 4, 5].map(
      (seed) => (run({ brightnessRange: [0.5, 0.9] }, seed)[0] ?? 0) / (plain[0] ?? 1),
    );
    expect(Math.min(...factors)).to.be.at.least(0.5 - 1e-6);
    expect(Math.max(...factors)).to.be.at.most(0.9 + 1e-6);
    expect(new Set(factors)).to.have.property('size', 5);
  });

  it('stays within 0–1 for any seed and any settings', () => {
    const switches = fc.record({
      rotate: fc.integer({ min: 0, max: 90 }),
      shear: fc.integer({ min: 0, max: 40 }),
      shift: fc.double({ min: 0, max: 0.5, noNaN: true }),
      zoom: fc.double({ min: 0, max: 1, noNaN: true }),
      aspect: fc.double({ min: 0, max: 1, noNaN: true }),
      flip: fc.double({ min: 0, max: 1, noNaN: true }),
      brightness: fc.double({ min: 0, max: 1, noNaN: true }),
      contrast: fc.double({ min: 0, max: 2, noNaN: true }),
      gamma: fc.double({ min: 0, max: 2, noNaN: true }),
      brightnessRange: fc.tuple(
        fc.double({ min: 0, max: 5, noNaN: true }),
        fc.double({ min: 0, max: 5, noNaN: true }),
      ),
      cutOut: fc.double({ min: 0, max: 1, noNaN: true }),
      noise: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    const source = Uint8Array.from({ length: 1024 }, (_, i) => (i * 97) % 256);
    fc.assert(
      fc.property(switches, fc.integer(), (settings, seed) =>
        run(settings, seed, source).every((value) => value >= 0 && value <= 1),
      ),
      { numRuns: 100 },
    );
  });
});

describe('mix-up', () => {
  it('mixes each row with the next by one share for pixels, targets and weights', () => {
    const pixels = Float32Array.from({ length: 6 * 4 }, (_, i) => Math.floor(i / 4));
    const targets = Float32Array.from({ length: 6 * 6 }, (_, i) => (i % 7 === 0 ? 1 : 0));
    const shares = mixShares(6, 0.4, 1, 2, 3);
    mix(pixels, shares);
    mix(targets, shares);
    shares.forEach((share, row) => {
      const next = (row + 1) % 6;
      expect(share).to.be.within(0.5, 1);
      expect(targets[row * 6 + row]).to.be.closeTo(share, 1e-6);
      expect(targets[row * 6 + next]).to.be.closeTo(1 - share, 1e-6);
      expect(pixels[row * 4 + 3]).to.be.closeTo(share * row + (1 - share) * next, 1e-6);
    });
  });

  it('draws the same shares for the same step, and others for another', () => {
    expect(mixShares(8, 0.2, 1, 2, 3)).to.deep.equal(mixShares(8, 0.2, 1, 2, 3));
    expect(mixShares(8, 0.2, 1, 2, 3)).to.not.deep.equal(mixShares(8, 0.2, 1, 2, 4));
  });

  it('leaves most films nearly unchanged if alpha is small', () => {
    const shares = mixShares(2000, 0.2, 1, 1, 1);
    const mean = shares.reduce((a, b) => a + b, 0) / shares.length;
    // E max(x, 1 − x) of Beta(0.2, 0.2), by numerical integration.
    expect(mean).to.be.closeTo(0.9, 0.02);
  });
});
