// Runs TensorFlow.js' own op tests on the eager backend, in a process of its own, because Jasmine lives in globals.
// `run-suite.ts` bundles this file with the test files appended; the outcomes go to the file named by the
// first argument, the second says how values enter a trace.
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';
import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util.js';
import { registerAllGradients } from '../../../src/engine/gradients/index.js';
import { EAGER_BACKEND, registerEagerBackend, type Known } from './eager-backend.js';
import type { Outcome } from './run-suite.js';

interface SpecResult {
  readonly fullName: string;
  readonly status: string;
  readonly failedExpectations: readonly { readonly message: string; readonly stack: string }[];
}

/** The part of Jasmine that is used; its own types would clash with Mocha's. */
interface Jasmine {
  boot(): {
    getEnv(): {
      configure(options: { random: boolean }): void;
      addReporter(reporter: { specDone: (result: SpecResult) => void }): void;
      execute(): Promise<unknown>;
    };
  };
}

const outcomes: Outcome[] = [];
const [, , target = '/dev/stdout', known] = process.argv as [string, string, string?, Known?];

const require = createRequire(`${process.cwd()}/`);
const env = (require('jasmine-core') as Jasmine).boot().getEnv();
env.configure({ random: false });
env.addReporter({
  specDone: ({ fullName, status, failedExpectations: [failure] }: SpecResult) => {
    if (status !== 'passed' && status !== 'failed') return;
    const name = fullName.replace(` ${EAGER_BACKEND} {}`, '');
    outcomes.push(
      failure
        ? { name, passed: false, message: failure.message, stack: failure.stack }
        : { name, passed: true },
    );
  },
});

registerEagerBackend(known ?? 'inputs');
registerAllGradients();
void tf.setBackend(EAGER_BACKEND);
setTestEnvs([{ name: EAGER_BACKEND, backendName: EAGER_BACKEND, isDataSync: true }]);

setImmediate(() => {
  void env.execute().then(() => {
    writeFileSync(target, JSON.stringify(outcomes));
  });
});
