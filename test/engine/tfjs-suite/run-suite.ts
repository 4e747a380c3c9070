import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { Known } from './eager-backend.js';

/** What came of one test of TensorFlow.js. */
export interface Outcome {
  /** Its full title. */
  readonly name: string;
  readonly passed: boolean;
  readonly message?: string;
  readonly stack?: string;
}

const require = createRequire(import.meta.url);
const core = join(dirname(require.resolve('@tensorflow/tfjs-core/package.json')), 'dist');
const program = fileURLToPath(new URL('program.ts', import.meta.url));

/** The test files that TensorFlow.js ships for its ops, optimisers and gradients; tests of its helpers are left out. */
export function testFiles(): string[] {
  const ofFolder = (folder: string): string[] =>
    readdirSync(join(core, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file));
  return [...ofFolder('ops'), ...ofFolder('optimizers'), 'gradients_test.js'].filter(
    (file) => file.endsWith('_test.js') && !file.endsWith('_util_test.js'),
  );
}

/**
 * Runs test files of TensorFlow.js on the eager backend in a child process. They import TensorFlow.js' sources without
 * file extensions, which Node cannot load: everything is bundled, with those sources as the one copy of TensorFlow.js.
 */
export async function runSuite(files: readonly string[], known: Known): Promise<Outcome[]> {
  const folder = join(core, '../../../.cache/rxray-tfjs-suite');
  const bundle = join(folder, 'suite.cjs');
  const outcomes = join(folder, 'outcomes.json');
  mkdirSync(folder, { recursive: true });
  await build({
    stdin: {
      contents: [program, ...files.map((file) => join(core, file))]
        .map((file) => `import ${JSON.stringify(file)};`)
        .join('\n'),
      resolveDir: dirname(program),
    },
    outfile: bundle,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    alias: { '@tensorflow/tfjs-core': join(core, 'index.js'), '@tensorflow/tfjs-core/dist': core },
    external: ['onnxruntime-node', 'jasmine-core'],
    // TensorFlow.js declares its files free of side effects, which tests are not.
    ignoreAnnotations: true,
    logLevel: 'error',
  });
  const child = spawn(process.execPath, ['--enable-source-maps', bundle, outcomes, known], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`The suite ended with code ${String(code)}:\n${errors.slice(-4000)}`);
  return JSON.parse(readFileSync(outcomes, 'utf8')) as Outcome[];
}
