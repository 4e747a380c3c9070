import { readFileSync } from 'node:fs';
import { basename, dirname, isAbsolute, resolve } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { errorKind, messageOf, RxrayError } from '../../core/errors.js';
import type { Log } from '../../core/plugin.js';
import type { PluginRegistry } from '../../core/plugins/registry.js';
import { Engine } from '../../engine/index.js';
import type { Bundle, PreprocessingStep } from '../../models/bundle.js';
import { metricLines, NOT_STATED, UNKNOWN, type About } from '../../training/card.js';
import { readDataset } from '../../training/dataset.js';
import { THUMBNAIL_CHAIN } from '../../training/near-duplicates.js';
import { prepareFilms, resolveChain } from '../../training/preprocess.js';
import { readText } from '../../training/text-file.js';
import { requireBundlePlace } from '../../training/write-bundle.js';
import type { Made, Recipe } from '../../training/recipe.js';
import { builtInRegistry } from '../../host/builtins.js';
import { Bar } from '../bar.js';
import { EXIT } from '../exit.js';
import { manifestOptionsOf } from '../manifest-options.js';
import { USUAL_SIDE, type CommonOptions, type DataOptions, type SizeOption } from './options.js';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const chainSchema = z
  .array(
    z.union([
      z.string().transform((use) => ({ use, with: {} })),
      z.strictObject({
        id: z.string().optional(),
        use: z.string(),
        with: z.record(z.string(), z.unknown()).default({}),
      }),
    ]),
    'expected a list of stages, such as `- decode`',
  )
  .min(1);

const aboutSchema = z.strictObject({
  name: z.string(),
  license: z.string(),
  source: z.string(),
  weights: z.string().optional(),
  limits: z
    .array(z.string({ error: 'expected text (quote it if it contains a colon and a space)' }))
    .default([]),
});

/** The options that resume or stop a training. */
export interface Stop {
  readonly resume: boolean;
  readonly signal: AbortSignal;
  readonly deadline?: number;
  readonly onDeadline: () => void;
}

/** Reads the data, lets `make` train on them, and reports. */
export async function run(
  options: DataOptions &
    Partial<CommonOptions> &
    SizeOption & { readonly masked?: boolean; readonly boxed?: boolean },
  usual: PreprocessingStep[] | (() => Promise<PreprocessingStep[]>),
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
  const registry = builtInRegistry();
  try {
    // Files named by options are read before the films, so that mistakes show at once.
    const about = await aboutOf(options);
    const { preprocess } = options;
    const baseDir = preprocess === undefined ? process.cwd() : dirname(resolve(preprocess));
    const chain = await chainOf(options, usual, registry, baseDir);
    await requireBundlePlace(out);
    const dataset = await readDataset(options.data, {
      validation: options.validation,
      seed: options.seed,
      masked: options.masked === true,
      boxed: options.boxed === true,
      ...manifestOptionsOf(options),
      thumbnails: async (films) => {
        const steps = await resolveChain(THUMBNAIL_CHAIN, registry, process.cwd());
        return prepareFilms(films, steps, {
          cacheDir: resolve(options.cache),
          baseDir: process.cwd(),
          log: warningsOnly,
          rxray: version,
          signal: abort.signal,
          onProgress: (done, total) => {
            report.bar('looking for copies', done, total, '');
          },
        });
      },
    });
    const { unreadable } = dataset;
    if (unreadable.length > 0 && options.skipUnreadable !== true) {
      throw new RxrayError(
        'TRAINING_DATA',
        [
          `${unreadable.length} films cannot be read:`,
          ...unreadable.map(({ film, reason }) => `  ${film.name}: ${reason}`),
          'Repair or remove them, or leave them out with --skip-unreadable.',
        ].join('\n'),
      );
    }
    for (const [split, counts] of Object.entries(dataset.counts)) {
      report.say(
        `${split}: ${Object.entries(counts)
          .map(([name, films]) => `${films} ${name}`)
          .join(', ')}`,
      );
    }
    for (const finding of dataset.findings) report.say(finding);
    const recipe: Recipe = {
      dataset,
      about,
      chain,
      out,
      name: basename(out),
      rxray: version,
      command: commandLine(),
      registry,
      baseDir,
      cacheDir: resolve(options.cache),
      log: warningsOnly,
      onPhase: (phase, done, total) => {
        report.bar(phase === 'preprocess' ? 'preprocessing' : 'scoring', done, total, '');
      },
    };
    const timeUp = new AbortController();
    const stop = {
      onDeadline: () => timeUp.abort(),
      resume: options.resume === true,
      signal: abort.signal,
      ...(deadline !== undefined && { deadline }),
    };
    const bundle = await make(recipe, engine, stop, report);
    report.end();
    if (bundle === undefined) {
      report.say(`stopped. To continue, repeat the command with --resume`);
      process.exitCode = EXIT.filmsFailed;
      return;
    }
    if (timeUp.signal.aborted) {
      report.say(
        `${options.maxMinutes ?? 0} minutes (--max-minutes) are over: the training ended before its ${options.epochs ?? 0} epochs, with the ` +
          'best model so far. Repeat the command with --resume to continue it',
      );
    }
    report.bundle(bundle, out);
  } catch (error) {
    const wrongUse = error instanceof RxrayError && errorKind(error) === 'training';
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
export class Report {
  readonly #json: boolean;
  readonly #bar = new Bar();

  constructor(json: boolean) {
    this.#json = json;
  }

  say(text: string): void {
    this.end();
    process.stderr.write(`${text}\n`);
  }

  bar(name: string, done: number, total: number, detail: string): void {
    if (!this.#json) this.#bar.show(name, done, total, detail);
  }

  /** The `onStep` of a training that has one loss. */
  readonly step = (done: number, total: number, epoch: number, loss: number): void => {
    this.bar(`epoch ${epoch}`, done, total, `loss ${loss.toFixed(4)}`);
  };

  epoch(row: object, text: string): void {
    this.end();
    console.log(this.#json ? JSON.stringify(row) : text);
  }

  bundle(bundle: Bundle, out: string): void {
    if (this.#json) {
      console.log(JSON.stringify({ bundle: out, metrics: bundle.metrics }));
      return;
    }
    // Without the table, which is in the card.
    const figures = metricLines(bundle.metrics).filter((line) => line.startsWith('- '));
    console.log([`${out}, on the validation films:`, ...figures].join('\n'));
    console.log('Not a medical device. The model card is its README.md.');
  }

  end(): void {
    this.#bar.end();
  }
}

const nothing = (): void => undefined;
const warningsOnly: Log = {
  debug: nothing,
  info: nothing,
  warn: (_fields, message) => process.stderr.write(`${message}\n`),
  error: (_fields, message) => process.stderr.write(`${message}\n`),
};

/** The default of `--preprocess`. */
export function usualChain(side = USUAL_SIDE): PreprocessingStep[] {
  return [
    { use: 'decode', with: {} },
    { use: 'clahe', with: {} },
    { use: 'resize', with: { width: side, height: side } },
  ];
}

/** The default where the network sees the film as it is. */
export function plainChain(side = USUAL_SIDE): PreprocessingStep[] {
  return [
    { use: 'decode', with: {} },
    { use: 'resize', with: { width: side, height: side } },
  ];
}

/** A YAML list of stages whose paths are relative to `baseDir`. Throws `TRAINING_DATA`. */
export async function chainFile(
  path: string,
  registry: PluginRegistry,
  baseDir: string,
): Promise<PreprocessingStep[]> {
  const chain = await yamlOf(path, chainSchema);
  try {
    await resolveChain(chain, registry, baseDir);
  } catch (cause) {
    throw new RxrayError('TRAINING_DATA', `${path}: ${messageOf(cause)}`, { cause });
  }
  return chain;
}

async function chainOf(
  { preprocess: path, size }: Pick<CommonOptions, 'preprocess'> & SizeOption,
  usual: PreprocessingStep[] | (() => Promise<PreprocessingStep[]>),
  registry: PluginRegistry,
  baseDir: string,
): Promise<PreprocessingStep[]> {
  if (path === undefined) return Array.isArray(usual) ? usual : usual();
  const chain = await chainFile(path, registry, baseDir);
  const last = chain.findLast(({ use }) => use === 'resize')?.with;
  const sides = [last?.['width'], last?.['height']];
  if (size === undefined || sides.every((side) => side === size)) return chain;
  const found = last === undefined ? 'has no `resize`' : `resizes to ${sides.join('×')}`;
  throw new RxrayError(
    'TRAINING_DATA',
    `--size ${size}: ${path} ${found}: leave out --size, or change the file`,
  );
}

/** The command for the model card, without the folders of this machine. */
function commandLine(): string {
  const words = process.argv.slice(2).map((word) => (isAbsolute(word) ? `…/${basename(word)}` : word));
  return ['rxray', ...words]
    .map((word) => (/^[\w./=,:@…-]+$/.test(word) ? word : JSON.stringify(word)))
    .join(' ');
}

async function aboutOf({ about, data }: DataOptions): Promise<About> {
  if (about !== undefined) return yamlOf(about, aboutSchema);
  return { name: basename(resolve(data)), license: UNKNOWN, source: NOT_STATED, limits: [] };
}

async function yamlOf<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  let value: unknown;
  try {
    value = parse(await readText(path));
  } catch (cause) {
    throw new RxrayError('TRAINING_DATA', `${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new RxrayError('TRAINING_DATA', `${path}: ${z.prettifyError(parsed.error)}`);
}
