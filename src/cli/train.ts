import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { SingleBar } from 'cli-progress';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { parse } from 'yaml';
import { z } from 'zod';
import { RxrayError, messageOf } from '../core/errors.js';
import type { Log } from '../core/plugin.js';
import { Engine } from '../engine/index.js';
import type { Bundle, PreprocessingStep } from '../models/bundle.js';
import {
  augmentationSchema,
  CHEST_AUGMENTATION,
  GENTLE_AUGMENTATION,
  NO_AUGMENTATION,
  type Augmentation,
} from '../training/augment.js';
import type { About } from '../training/card.js';
import { readDataset } from '../training/dataset.js';
import type { Made, Recipe } from '../training/recipe.js';
import { builtInRegistry } from './builtins.js';
import { EXIT } from './exit.js';

interface CommonOptions {
  readonly data: string;
  readonly out: string;
  readonly columns?: string;
  readonly validation: number;
  readonly preprocess?: string;
  readonly about?: string;
  readonly width: number;
  readonly epochs: number;
  readonly batch: number;
  readonly lr: number;
  readonly seed: number;
  readonly augment?: false | string;
  readonly cache: string;
  readonly resume?: true;
  readonly maxMinutes?: number;
  readonly json?: true;
}

interface ResnetCommandOptions extends CommonOptions {
  readonly depth: number;
  readonly size: number;
  readonly optimizer: 'sgd' | 'adam';
  readonly weightDecay: number;
  readonly labelSmoothing: number;
  readonly mixUp: number;
  readonly warmUp: number;
  readonly nesterov?: true;
  readonly patience: number;
}

interface AnoganCommandOptions extends CommonOptions {
  readonly normal: string;
  readonly steps: number;
  readonly lambda: number;
  readonly searchRate: number;
  readonly restarts: number;
  readonly patience: number;
}

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const chainSchema = z
  .array(
    z.union([
      z.string().transform((use) => ({ use, with: {} })),
      z.strictObject({ use: z.string(), with: z.record(z.string(), z.unknown()).default({}) }),
    ]),
  )
  .min(1);

const aboutSchema = z.strictObject({
  name: z.string(),
  license: z.string(),
  source: z.string(),
  limits: z.array(z.string()).default([]),
});

const columnsSchema = z.partialRecord(
  z.enum(['path', 'class', 'split', 'patient', 'duplicateOf']),
  z.string(),
);

export function train(program: Command): void {
  const command = program.command('train');

  common(command.command('resnet'), { width: 32, epochs: 20, batch: 32, lr: 0.05 })
    .description('Trains a ResNet classifier.')
    .option('--depth <18|34|50>', 'layers of the network', oneOf(18, 34, 50), 18)
    .option('--size <pixels>', 'side of the image that the network sees', positive, 128)
    .addOption(
      new Option('--optimizer <name>', 'sgd has momentum 0.9').choices(['sgd', 'adam']).default('sgd'),
    )
    .option('--weight-decay <number>', 'of the weights', number, 5e-4)
    .option('--label-smoothing <0..1>', 'probability that is spread over all labels', share, 0.1)
    .option('--mix-up <alpha>', 'mix films in pairs by a share from Beta(alpha, alpha); 0: not', share, 0)
    .option('--nesterov', 'momentum that looks one step ahead (sgd)')
    .option('--warm-up <epochs>', 'epochs in which the learning rate rises to its peak', positive, 1)
    .option('--patience <epochs>', 'stop after so many epochs without a better validation', positive, 10)
    .addHelpText(
      'after',
      '\nExample:\n  $ rxray train resnet --data films/manifest.csv --out models/chest-resnet',
    )
    .action(async (options: ResnetCommandOptions) => {
      const { makeClassifier } = await import('../training/classifier-bundle.js');
      const augmentation = await augmentationOf(options.augment, CHEST_AUGMENTATION);
      await run(options, usualChain(options.size), (recipe, engine, stop, report) =>
        makeClassifier(
          recipe,
          engine,
          {
            depth: options.depth as 18 | 34 | 50,
            width: options.width,
            epochs: options.epochs,
            batchSize: options.batch,
            optimizer: options.optimizer,
            nesterov: options.nesterov === true,
            learningRate: options.lr,
            weightDecay: options.weightDecay,
            warmupEpochs: options.warmUp,
            labelSmoothing: options.labelSmoothing,
            mixUp: options.mixUp,
            classWeights: true,
            patience: options.patience,
            seed: options.seed,
            augmentation,
          },
          {
            ...stop,
            onStep: (done, total, epoch, loss) => {
              report.bar(`epoch ${epoch}`, done, total, `loss ${loss.toFixed(4)}`);
            },
            onEpoch: (row, best) => {
              report.epoch(
                { ...row, best },
                `epoch ${row.epoch}/${options.epochs}  loss ${row.loss.toFixed(4)}  accuracy ${row.accuracy.toFixed(3)}  ` +
                  `val loss ${row.valLoss.toFixed(4)}  val balanced accuracy ${row.valBalancedAccuracy.toFixed(4)}` +
                  `${best ? ' *' : '  '}  lr ${row.learningRate.toPrecision(2)}  ${row.seconds.toFixed(0)} s`,
              );
            },
          },
        ),
      );
    });

  common(command.command('anogan'), { width: 32, epochs: 150, batch: 32, lr: 0.0002 })
    .description('Trains an AnoGAN on the normal films.')
    .option('--normal <class>', 'the class that is normal', 'normal')
    .option('--steps <n>', 'gradient steps of the search that scores the reference films', positive, 100)
    .option('--lambda <0..1>', 'share of the discrimination loss in the score', share, 0.1)
    .option('--search-rate <number>', 'learning rate of the search', number, 0.05)
    .option('--restarts <n>', 'searches per film, of which the best counts', positive, 2)
    .option('--patience <epochs>', 'stop after so many epochs without a better validation', positive, 60)
    .addHelpText(
      'after',
      '\nExample:\n  $ rxray train anogan --data films/manifest.csv --normal normal --out models/chest-anogan',
    )
    .action(async (options: AnoganCommandOptions) => {
      const { makeAnogan } = await import('../training/anogan-bundle.js');
      const augmentation = await augmentationOf(options.augment, GENTLE_AUGMENTATION);
      await run(options, usualChain(64), (recipe, engine, stop, report) =>
        makeAnogan(
          recipe,
          engine,
          options.normal,
          {
            width: options.width,
            epochs: options.epochs,
            batchSize: options.batch,
            learningRate: options.lr,
            realLabel: 0.9,
            seed: options.seed,
            augmentation,
            search: {
              steps: options.steps,
              lambda: options.lambda,
              learningRate: options.searchRate,
              restarts: options.restarts,
            },
            evaluateEvery: 20,
            patience: options.patience,
          },
          {
            ...stop,
            onStep: (done, total, epoch, loss) => {
              report.bar(`epoch ${epoch}`, done, total, `generator loss ${loss.toFixed(4)}`);
            },
            onEpoch: (row, best) => {
              report.epoch(
                { ...row, best },
                `epoch ${row.epoch}/${options.epochs}  D ${row.discriminatorLoss.toFixed(4)}  G ${row.generatorLoss.toFixed(4)}  ` +
                  `real ${row.real.toFixed(2)}  fake ${row.fake.toFixed(2)}` +
                  `${row.auroc === null ? '' : `  AUROC ${row.auroc.toFixed(3)}${best ? ' *' : ''}`}  ${row.seconds.toFixed(1)} s`,
              );
            },
          },
        ),
      );
    });
}

function common(
  command: Command,
  usual: { width: number; epochs: number; batch: number; lr: number },
): Command {
  return command
    .requiredOption('--data <path>', 'a manifest (CSV) or a folder of classes')
    .requiredOption('--out <dir>', "the bundle's folder; its checkpoint lies beside it")
    .option('--columns <names>', "the manifest's columns, e.g. path=file,class=label,patient=id")
    .option(
      '--validation <0..1>',
      'share of the films to validate on, where the data name no split',
      share,
      0.12,
    )
    .option(
      '--preprocess <file>',
      'YAML list of the stages before the model (default: decode, clahe, resize)',
    )
    .option('--about <file>', 'YAML with name, license, source and limits of the data, for the model card')
    .option(
      '--width <channels>',
      'channels of the narrowest layer; 64 is the standard network',
      positive,
      usual.width,
    )
    .option('--epochs <n>', 'times through the films', positive, usual.epochs)
    .option('--batch <n>', 'films per step', positive, usual.batch)
    .option('--lr <number>', 'learning rate at its peak', number, usual.lr)
    .option('--seed <n>', 'the same seed gives the same model', positive, 1)
    .option('--augment <key=value,…|file>', 'how films are varied, e.g. flip=0.5,rotate=20, or a YAML file')
    .option('--no-augment', 'show the films as they are')
    .option('--cache <dir>', 'where preprocessed films are kept', '.rxray/cache')
    .option('--resume', 'go on from the checkpoint')
    .option('--max-minutes <n>', 'stop after so long and write the best model so far', number)
    .option('--json', 'print one JSON line per epoch, and the bundle at the end');
}

interface Stop {
  readonly resume: boolean;
  readonly signal: AbortSignal;
  readonly deadline?: number;
}

async function run(
  options: CommonOptions,
  usual: PreprocessingStep[],
  make: (recipe: Recipe, engine: Engine, stop: Stop, report: Report) => Promise<Made>,
): Promise<void> {
  const deadline = options.maxMinutes === undefined ? undefined : Date.now() + options.maxMinutes * 60_000;
  const report = new Report(options.json === true);
  const out = resolve(options.out);
  const abort = new AbortController();
  const interrupt = (): void => {
    abort.abort();
  };
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const engine = new Engine();
  try {
    const dataset = await readDataset(options.data, {
      validation: options.validation,
      seed: options.seed,
      columns: await columnsOf(options.columns),
    });
    for (const [split, counts] of Object.entries(dataset.counts)) {
      report.say(
        `${split}: ${Object.entries(counts)
          .map(([name, films]) => `${films} ${name}`)
          .join(', ')}`,
      );
    }
    if (dataset.duplicates > 0) report.say(`${dataset.duplicates} exact copies left out`);
    const recipe: Recipe = {
      dataset,
      about: await aboutOf(options),
      chain: options.preprocess === undefined ? usual : await yamlOf(options.preprocess, chainSchema),
      out,
      name: basename(out),
      rxray: version,
      registry: builtInRegistry(),
      baseDir: options.preprocess === undefined ? process.cwd() : dirname(resolve(options.preprocess)),
      cacheDir: resolve(options.cache),
      log: warningsOnly,
      onPhase: (phase, done, total) => {
        report.bar(phase === 'preprocess' ? 'preprocessing' : 'scoring', done, total, '');
      },
    };
    const stop = {
      resume: options.resume === true,
      signal: abort.signal,
      ...(deadline !== undefined && { deadline }),
    };
    const bundle = await make(recipe, engine, stop, report);
    report.end();
    if (bundle === undefined) {
      report.say(`stopped. To go on: repeat the command with --resume`);
      process.exitCode = EXIT.filmsFailed;
      return;
    }
    report.bundle(bundle, out);
  } catch (error) {
    const wrongUse = error instanceof RxrayError && error.code.startsWith('TRAINING_');
    if (!wrongUse && !abort.signal.aborted) throw error;
    report.say(wrongUse ? `${error.code} ${error.message}` : 'stopped before the training began');
    process.exitCode = wrongUse ? EXIT.usage : EXIT.filmsFailed;
  } finally {
    report.end();
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
    await engine.dispose();
  }
}

/** Bars on a terminal, one line per epoch elsewhere, or JSON lines. */
class Report {
  readonly #json: boolean;
  #bar: { readonly name: string; readonly line: SingleBar } | undefined;

  constructor(json: boolean) {
    this.#json = json;
  }

  say(text: string): void {
    this.end();
    process.stderr.write(`${text}\n`);
  }

  bar(name: string, done: number, total: number, detail: string): void {
    if (this.#json || !process.stderr.isTTY) return;
    if (this.#bar?.name !== name) {
      this.end();
      const line = new SingleBar({
        format: '{name} {bar} {value}/{total}  {eta_formatted} left  {detail}',
        hideCursor: true,
        clearOnComplete: true,
      });
      line.start(total, done, { name, detail });
      this.#bar = { name, line };
    }
    this.#bar.line.update(done, { detail });
  }

  epoch(row: object, text: string): void {
    this.end();
    console.log(this.#json ? JSON.stringify(row) : text);
  }

  bundle(bundle: Bundle, out: string): void {
    if (this.#json) {
      console.log(JSON.stringify({ bundle: out, metrics: bundle.metrics }));
      return;
    }
    console.log(`${out}: ${JSON.stringify(bundle.metrics)}`);
    console.log('Not a medical device. The model card is its README.md.');
  }

  end(): void {
    this.#bar?.line.stop();
    this.#bar = undefined;
  }
}

const nothing = (): void => undefined;
const warningsOnly: Log = {
  debug: nothing,
  info: nothing,
  warn: (_fields, message) => process.stderr.write(`${message}\n`),
  error: (_fields, message) => process.stderr.write(`${message}\n`),
};

function usualChain(side: number): PreprocessingStep[] {
  return [
    { use: 'decode', with: {} },
    { use: 'clahe', with: {} },
    { use: 'resize', with: { width: side, height: side } },
  ];
}

async function aboutOf({ about, data }: CommonOptions): Promise<About> {
  if (about !== undefined) return yamlOf(about, aboutSchema);
  return { name: basename(dirname(resolve(data))), license: 'unknown', source: 'Not stated.', limits: [] };
}

/** What is given replaces single settings of the usual ones. */
async function augmentationOf(given: false | string | undefined, usual: Augmentation): Promise<Augmentation> {
  if (given === undefined) return usual;
  if (typeof given !== 'string') return NO_AUGMENTATION;
  const schema = augmentationSchema.partial();
  if (!given.includes('=')) return { ...usual, ...(await yamlOf(given, schema)) } as Augmentation;
  const pairs = given.split(',').map((pair) => {
    const [key = '', value = ''] = pair.split('=');
    return [key.trim(), value.trim() === '' ? NaN : Number(value)] as const;
  });
  const parsed = schema.safeParse(Object.fromEntries(pairs));
  if (!parsed.success) {
    throw new RxrayError('TRAINING_DATA', `--augment ${given}: ${z.prettifyError(parsed.error)}`);
  }
  return { ...usual, ...parsed.data } as Augmentation;
}

async function columnsOf(text: string | undefined): Promise<z.output<typeof columnsSchema>> {
  if (text === undefined) return {};
  const pairs = text.split(',').map((pair) => pair.split('='));
  const parsed = columnsSchema.safeParse(Object.fromEntries(pairs));
  if (parsed.success) return parsed.data;
  throw new RxrayError('TRAINING_DATA', `--columns ${text}: ${z.prettifyError(parsed.error)}`);
}

async function yamlOf<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  let value: unknown;
  try {
    value = parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new RxrayError('TRAINING_DATA', `${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new RxrayError('TRAINING_DATA', `${path}: ${z.prettifyError(parsed.error)}`);
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0) {
    throw new InvalidArgumentError('expected a number that is not negative');
  }
  return value;
}

function share(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1)) {
    throw new InvalidArgumentError('expected a number from 0 to 1');
  }
  return value;
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('expected a whole number from 1');
  return value;
}

function oneOf(...values: readonly number[]): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!values.includes(value)) throw new InvalidArgumentError(`expected ${values.join(', ')}`);
    return value;
  };
}
