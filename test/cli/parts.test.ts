import { expect } from 'chai';
import { partsTrial } from '../chaos/parts.js';

describe('rxray run --part', () => {
  it('gives the same as an undisturbed run when joined, although a part was killed and repeated', async function () {
    this.timeout(240_000);
    // `npm run chaos:parts` does it with 200 parts.
    const { killed, rows, ...rest } = await partsTrial({ films: 45, parts: 3, kills: 1, jobs: 3, seed: 1 });
    expect(killed.nothing + killed.some + killed.all).to.equal(1);
    expect(rows).to.equal(44);
    const { journalsLost: _lost, ...found } = rest;
    expect(found).to.deep.equal({ lost: 0, double: 0, failed: 1, sameFailed: true, complaints: [] });
  });
});
