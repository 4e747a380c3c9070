import { expect } from 'chai';
import { world } from './world.js';

describe('a graph whose files are treated badly', function () {
  this.timeout(600_000);
  before(function () {
    // Files that are open cannot be renamed there.
    if (process.platform === 'win32') this.skip();
  });

  for (const [seed, onDone] of ['keep', 'move', 'delete'].entries()) {
    it(`delivers every film once, whatever happens to its file (onDone: ${onDone})`, async () => {
      // A third of the deeds each; `npm run chaos:world` does all of them with each.
      const { films, lost, double, deeds } = await world(seed, 5, seed, 3);
      expect([...lost, ...double]).to.deep.equal([]);
      expect(films).to.be.greaterThan(5);
      expect(Object.keys(deeds)).to.have.lengthOf(5);
    });
  }
});
