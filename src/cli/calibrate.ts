import { createRequire } from 'node:module';
import { basename, resolve } from 'node:path';
import { Option, type Command } from 'commander';
import pc from 'picocolors';
import { RxrayError } from '../core/errors.js';
import { Engine } from '../engine/index.js';
import { healthyLabels, readBundle } from '../models/bundle.js';
import { builtInRegistry } from '../host/builtins.js';
import { calibrationInForce, ENOUGH_NORMALS } from '../models/calibration-in-force.js';
import { calibrateBundle } from '../training/calibrate-bundle.js';
import { readDataset } from '../training/dataset.js';
import { requireBundlePlace } from '../training/write-bundle.js';
import { EXIT } from './exit.js';
import { overlaps } from '../training/evaluation/overlap.js';
import { createLog } from './log.js';
import { manifestOptions, manifestOptionsOf, type ManifestOptions } from './manifest-options.js';
import { share } from './numbers.js';
import { usageErrorText } from './usage-error.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

interface CalibrateOptions extends ManifestOptions {
  readonly out: string;
  readonly normals?: string;
  readonly data?: string;
  readonly split?: string;
  readonly normal?: string;
  readonly falsePositives?: number;
  readonly cache: string;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ rxray calibrate models/chest-resnet --normals ./our-normal-films --out models/ours
  $ rxray calibrate models/chest-resnet --data ours.csv --false-positives 0.1 --out models/ours
  $ rxray calibrate models/chest-patchcore --normals ./our-normal-films --out models/our-patchcore

--normals takes a folder of normal films; subfolders are read too. --data takes labelled films, as for
\`rxray train\`, and also fits a classifier's temperature. Use at least ${ENOUGH_NORMALS} normal films, and none that the model was trained on.

Exit codes: 0 fine, 1 some films could not be read, 2 usage, unsuitable films or bundle, 3 fatal.`;

export function calibrate(program: Command): void {
  manifestOptions(
    program
      .command('calibrate')
      .argument('<bundle>', "the model's folder")
      .requiredOption('--out <dir>', "the new bundle's folder")
      .addOption(new Option('--normals <dir>', 'a folder of normal films').conflicts('data'))
      .option('--data <path>', 'a manifest (CSV) or a folder of classes')
      .option('--split <name>', 'train, val, test or all', 'all'),
  )
    .option('--normal <class>', "the class of healthy films (default: the bundle's)")
    .option('--false-positives <0..1>', 'share of the normal films that may be called abnormal', share, 0.05)
    .option('--cache <dir>', 'folder for preprocessed films', '.rxray/cache')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (bundle: string, options: CalibrateOptions) => {
      const { text, warnings, code } = await calibrateFiles(bundle, options);
      for (const warning of warnings) process.stderr.write(`${pc.yellow(warning)}\n`);
      (code === EXIT.usage ? process.stderr : process.stdout).write(`${text}\n`);
      process.exitCode = code;
    });
}

/** What `rxray calibrate` prints, its warnings and its exit code. */
export async function calibrateFiles(
  path: string,
  options: CalibrateOptions,
): Promise<{ text: string; warnings: string[]; code: number }> {
  const engine = new Engine();
  try {
    const [dir, out] = [resolve(path), resolve(options.out)];
    const data = options.normals ?? options.data;
    if (data === undefined)
      throw new RxrayError('TRAINING_DATA', 'expected films: --normals DIR or --data MANIFEST');
    if (dir === out) throw new RxrayError('BUNDLE_PLACE', `--out must be another folder than ${path}`);
    const bundle = await readBundle(dir);
    await requireBundlePlace(out);
    const dataset = await readDataset(data, {
      validation: 0,
      ...(options.normals !== undefined && { allOf: options.normal ?? healthyLabels(bundle)[0] ?? 'normal' }),
      ...manifestOptionsOf(options),
    });
    const stateDir = resolve(options.cache);
    const {
      bundle: written,
      own,
      unreadable,
    } = await calibrateBundle(
      {
        ...{ dir, bundle, dataset, out, split: options.split, normal: options.normal },
        ...{ cacheDir: stateDir, baseDir: process.cwd(), rxray: version, source: basename(resolve(data)) },
        falsePositiveRate: options.falsePositives ?? 0.05,
        onProgress: () => undefined,
      },
      { registry: builtInRegistry(), engine, log: createLog(), stateDir },
    );
    const warnings = [
      ...overlaps(bundle, dataset, options.split, 'The threshold is too good for other films: use others.'),
      ...unreadable.map(({ film, reason }) => `left out: ${film}: ${reason}`),
      ...(own.normals < ENOUGH_NORMALS
        ? [`${own.normals} normal films are few: use ${ENOUGH_NORMALS} or more for a reliable threshold`]
        : []),
    ];
    const summary = {
      bundle: options.out,
      ...own,
      calibration: written.calibration,
      reference: written.reference,
    };
    const text = options.json ? JSON.stringify(summary) : `${options.out}: ${calibrationInForce(written)}`;
    return { text, warnings, code: unreadable.length === 0 ? EXIT.fine : EXIT.filmsFailed };
  } catch (error) {
    return { text: usageErrorText(error), warnings: [], code: EXIT.usage };
  } finally {
    await engine.dispose();
  }
}
