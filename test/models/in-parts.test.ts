import { expect } from 'chai';
import { readFile } from 'node:fs/promises';
import { Engine } from '../../src/engine/index.js';
import { inParts } from '../../src/models/in-parts.js';
import { fill } from '../engine/kernel-cases.js';

describe('a network that runs on part of a batch at a time', () => {
  let engine: Engine;
  before(() => (engine = new Engine()));
  after(() => engine.dispose());

  it('gives the rows of the whole batch, in order', async () => {
    const bytes = await readFile(new URL('../../models/chest-anogan/encoder.onnx', import.meta.url));
    const session = await engine.load(bytes, { device: 'cpu' });
    const films = fill([5, 64, 64, 1], 1);
    const sizes: number[] = [];
    const whole = await session.run({ images: films });
    const parts = await inParts(films, 2, (images) => {
      sizes.push(images.dims[0] ?? 0);
      return session.run({ images });
    });
    expect(sizes).to.deep.equal([2, 2, 1]);
    expect(parts.z?.dims).to.deep.equal([5, 100]);
    for (const [i, value] of (whole.z?.data ?? []).entries())
      expect(Number(parts.z?.data[i])).to.be.closeTo(Number(value), 1e-5);
  });

  it('shows when a part gave too few rows', async () => {
    const one = { data: Float32Array.of(1), dims: [1, 1] };
    const { rows } = await inParts(fill([4, 3], 1), 2, () => Promise.resolve({ rows: one }));
    expect(rows?.dims).to.deep.equal([2, 1]);
  });
});
