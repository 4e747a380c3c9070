import { expect } from 'chai';
import { chaos, lastLine, type Suspicion, type Tally } from './chaos.js';
import { MUTANTS } from './mutants.js';
import { buildProgram, type Program } from './program.js';

/** The short version of `npm run chaos`; with a suspicion it goes on for longer, but ends with the first fault. */
const short = (program: Program, suspicion?: Suspicion): Promise<Tally> =>
  chaos({
    program: program.main,
    hits: 1,
    ...(suspicion === undefined
      ? { kills: 24, films: 200, seconds: 45 }
      : { kills: 120, films: 600, seconds: 240 }),
    filmsPerTrial: 100,
    abreast: suspicion === undefined ? 2 : 1,
    ...(suspicion !== undefined && { suspicion }),
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
        const { lost, double } = await short(program, suspicion);
        expect([...lost, ...double]).not.to.deep.equal([]);
      } finally {
        await program.remove();
      }
    });
  }
});
