import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { RxrayError } from '../core/errors.js';
import { builtInRegistry } from '../host/builtins.js';
import { BundleError, readBundle } from '../models/bundle.js';
import { verifyBundle, type Verification } from '../training/evaluation/verify.js';
import { EXIT } from './exit.js';
import { createLog } from './log.js';
import { manifestOptions, manifestOptionsOf, type ManifestOptions } from './manifest-options.js';
import { positive } from './numbers.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

const EXAMPLES = `
Examples:
  $ rxray verify models/chest-resnet --data films
  $ rxray verify models/chest-anogan --data films/manifest.csv --limit 20 --json
  $ rxray verify models/chest-resnet --data films.csv --directory films --split test

Each film is processed in four ways: by the training's preprocessing, by an evaluation, by a running graph that
watches a folder, and by ONNX Runtime without the engine. All of them must feed the model the same tensor, bit
for bit, and give the same score. Everything runs on the CPU.

A film that cannot be read is named and left out.

Exit codes: 0 no differences, 1 differences or unreadable films, 2 usage or no readable film, 3 fatal.`;

interface VerifyOptions extends ManifestOptions {
  readonly data: string;
  readonly split?: string;
  readonly limit?: number;
  readonly method?: string;
  readonly json?: boolean;
}

export function verify(program: Command): void {
  manifestOptions(
    program
      .command('verify')
      .argument('<bundle>', "the model's folder")
      .requiredOption('--data <path>', 'a folder of films, or a manifest (CSV)')
      .option('--split <name>', 'train, val, test or all (default: all)'),
  )
    .option('--limit <n>', 'verify at most this many films, spread evenly over all', positive)
    .addOption(new Option('--method <name>', 'how an AnoGAN scores').choices(['search', 'encoder', 'refine']))
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (bundle: string, options: VerifyOptions) => {
      const { text, code } = await verifyFiles(bundle, options);
      (code === EXIT.usage ? process.stderr : process.stdout).write(`${text}\n`);
      process.exitCode = code;
    });
}

/** What `rxray verify` prints, and its exit code. */
async function verifyFiles(
  path: string,
  { json, ...options }: VerifyOptions,
): Promise<{ text: string; code: number }> {
  const dir = resolve(path);
  try {
    const bundle = await readBundle(dir);
    const services = { registry: builtInRegistry(), log: createLog(), rxray: version };
    const request = { ...options, ...manifestOptionsOf(options) };
    const found = await verifyBundle(dir, bundle, request, services);
    const same = found.differences.length === 0 && found.phantom !== false;
    const text = json ? JSON.stringify({ model: bundle.name, same, ...found }) : describe(bundle.name, found);
    return { text, code: same && found.unreadable.length === 0 ? EXIT.fine : EXIT.filmsFailed };
  } catch (error) {
    if (!(error instanceof BundleError || error instanceof RxrayError)) throw error;
    const prefix = error instanceof RxrayError ? `${error.code} ` : '';
    return { text: `${prefix}${error.message}`, code: EXIT.usage };
  }
}

function describe(model: string, found: Verification): string {
  const { films, unreadable, differences, maxScoreDifference, phantom } = found;
  const lines = unreadable.map(({ film, reason }) => `${film} cannot be read: ${reason}`);
  lines.push(...differences.map(({ film, way, what }) => `${film}, ${way}: ${what}`));
  if (phantom === false) lines.push('the phantom film gives another tensor than when the bundle was made');
  lines.push(
    differences.length === 0
      ? `${model}: training, evaluation, a running graph and plain ONNX Runtime feed the model the same tensors ` +
          `for ${films} films, bit for bit; the scores differ by at most ${maxScoreDifference.toPrecision(2)}`
      : `${model}: ${differences.length} differences on ${films} films`,
  );
  if (phantom === true) lines.push('the phantom film gives the tensor that the bundle records');
  return lines.join('\n');
}
