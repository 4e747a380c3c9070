import { expect } from 'chai';
import { natsVersion } from '../cluster/nats-servers.js';
import { faultsOf, summary, trial } from '../cluster/trial.js';
import { Random } from './random.js';

describe('a head and its workers over NATS, in trouble', function () {
  this.timeout(900_000);

  it('lose no film and deliver none twice, whatever ends in between', async function () {
    // .ci/run installs the server.
    if (natsVersion() === undefined) this.skip();
    const report = await trial({
      ...{ films: 20_000, poison: 1, workers: 3, leaseMs: 1500, sleepMs: 120 },
      faults: faultsOf(60, new Random(1)),
    });
    expect(summary(report)).to.contain('20000 films, 0 lost, 0 double');
    // Those that come due while another is under way may find all films done; without root no network is cut.
    expect(report.faults).to.be.at.least(40);
    // Each film has the result of the graph that the journal has for it.
    expect(report).to.include({ wronged: 0, mixed: 0 });
    expect(report.graphs).to.be.above(1);
  });
});
