import { expect } from 'chai';
import { runSuite, testFiles } from './tfjs-suite/run-suite.js';
import { judge } from './tfjs-suite/skips.js';

/** What is skipped, and why, stands in tfjs-suite/skips.ts. */
describe("TensorFlow.js' own tests of its ops", function () {
  this.timeout(600_000);

  for (const known of ['inputs', 'constants'] as const) {
    it(`pass on the engine, each op traced, compiled and run on ${known}`, async () => {
      const { passed, skipped, failed, stale } = judge(await runSuite(testFiles(), known));
      const count = [...skipped.values()].reduce((sum, number) => sum + number, 0);
      const reasons = [...skipped].map(([reason, number]) => `        ${number} ${reason}`);
      console.log(
        [`      ${passed} passed, ${count} skipped, ${failed.length} failed`, ...reasons].join('\n'),
      );
      expect(failed.map(({ name, message }) => `${name}: ${message ?? ''}`)).to.deep.equal([]);
      expect(stale, 'skipped tests that pass by now').to.deep.equal([]);
      expect(passed).to.be.greaterThan(2800);
    });
  }
});
