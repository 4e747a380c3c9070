import { expect } from 'chai';
import { chaos, lastLine, type Suspicion, type Tally } from './chaos.js';
import { MUTANTS } from './mutants.js';
import { buildProgram, type Program } from './program.js';

/** The short version of `npm run chaos`. */
const short = (program: Program): Promise<Tally> =>
  chaos({
    program: program.main,
    kills: 20,
    films: 160,
    hits: 1,
    seconds: 20,
    filmsPerTrial: 80,
    abreast: 2,
  });

/** Kills three times where the fault shows, and accounts for the films; again, if need be, until there is one lost or double. */
const search = (program: Program, suspicion: Suspicion): Promise<Tally> =>
  chaos({
    program: program.main,
    kills: 40,
    films: 1000,
    hits: 1,
    seconds: 240,
    filmsPerTrial: 50,
    killsPerTrial: 3,
    abreast: 1,
    suspicion,
  });

describe('a pipeline that is killed again and again', () => {
  it('loses no film and delivers none twice', async function () {
    this.timeout(600_000);
    const program = await buildProgram();
    try {
      const tally = await short(program);
      expect([...tally.lost, ...tally.double]).to.deep.equal([]);
      expect(tally.kills, lastLine(tally)).to.be.greaterThan(0);
      expect(tally.inFlight, 'kills while films were in flight').to.be.greaterThan(0);
    } finally {
      await program.remove();
    }
  });

  for (const { name, patches, suspicion } of MUTANTS) {
    it(`is found out when ${name}`, async function () {
      this.timeout(600_000);
      const program = await buildProgram(patches);
      try {
        const { lost, double } = await search(program, suspicion);
        expect([...lost, ...double]).not.to.deep.equal([]);
      } finally {
        await program.remove();
      }
    });
  }
});
