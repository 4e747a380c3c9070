import { createRequire } from 'node:module';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Option, type Command } from 'commander';
import pc from 'picocolors';
import { RxrayError } from '../core/errors.js';
import { NOTICE } from '../core/notice.js';
import { Engine } from '../engine/index.js';
import { readBundle } from '../models/bundle.js';
import { readDataset, type Dataset } from '../training/dataset.js';
import type { AnomalyFigures } from '../training/evaluation/anomaly-figures.js';
import type { BinaryFigures } from '../training/evaluation/binary-figures.js';
import type { Interval } from '../training/evaluation/bootstrap.js';
import type { ShiftedMasks } from '../training/evaluation/segmentation.js';
import type { ShiftSuite } from '../training/evaluation/shifts.js';
import type { ClassifierFigures } from '../training/evaluation/classifier-figures.js';
import {
  evaluate as evaluateBundle,
  type Evaluation,
  type EvaluationRequest,
  same,
} from '../training/evaluation/evaluate.js';
import { overlaps } from '../training/evaluation/overlap.js';
import type { ModelServices } from '../training/evaluation/score.js';
import { builtInRegistry } from '../host/builtins.js';
import { Bar } from './bar.js';
import { EXIT } from './exit.js';
import { latestOf, manifestOf, NONE_REVIEWED } from './reviews.js';
import { createLog } from './log.js';
import { manifestOptions, manifestOptionsOf, type ManifestOptions } from './manifest-options.js';
import { columns } from './table.js';
import { usageErrorText } from './usage-error.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

interface EvaluateOptions extends ManifestOptions {
  readonly data?: string;
  /** The pipeline file; `true`: pipeline.yaml. */
  readonly reviews?: string | true;
  readonly split?: string;
  readonly normal?: string;
  readonly method?: string;
  readonly cache: string;
  readonly report?: string;
  /** A segmenter's folder. */
  readonly lungs?: string;
  readonly shifts?: boolean;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  $ rxray evaluate models/chest-resnet --data films/manifest.csv --split test
  $ rxray evaluate models/chest-resnet --data films/manifest.csv --report out/report
  $ rxray evaluate models/chest-resnet --data films/manifest.csv --shifts
  $ rxray evaluate models/chest-resnet --data films --json | jq .binary
  $ rxray evaluate models/chest-anogan --data films/test --method search
  $ rxray evaluate models/chest-resnet --reviews ward.yaml   on the films that were reviewed in the page

--data takes the same as \`rxray train\`: a folder of classes, or a manifest (CSV) with the columns path, class and
optionally split and patient. Default split: "test" if the data have one, else "val", else all films.

A film that cannot be read is named and not counted.

Exit codes: 0 fine, 1 some films could not be read, 2 usage, unsuitable films or bundle, 3 fatal.`;

export function evaluate(program: Command): void {
  manifestOptions(
    program
      .command('evaluate')
      .argument('<bundle>', "the model's folder")
      .option('--data <path>', 'a manifest (CSV) or a folder of classes')
      .option(
        '--reviews [pipeline]',
        'instead of --data: the films of a pipeline that people have reviewed (default: pipeline.yaml)',
      )
      .option('--split <name>', 'train, val, test or all'),
  )
    .option('--normal <class>', "the class of healthy films (default: the bundle's)")
    .addOption(new Option('--method <name>', 'how an AnoGAN scores').choices(['search', 'encoder', 'refine']))
    .option('--cache <dir>', 'folder for preprocessed films', '.rxray/cache')
    .option('--report <dir>', 'write a report (one HTML page, and its figures as JSON) to this folder')
    .option(
      '--lungs <bundle>',
      "shortcut controls by the lungs that this segmenter finds (default with --report: the manifest's masks)",
    )
    .option(
      '--shifts',
      'also evaluate altered films, as other machines would produce them: contrast, crop, border, blur, …',
    )
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (bundle: string, options: EvaluateOptions) => {
      const { text, code } = await evaluateFiles(bundle, options);
      (code === EXIT.usage ? process.stderr : process.stdout).write(`${text}\n`);
      process.exitCode = code;
    });
}

/** What `rxray evaluate` prints, and its exit code. */
export async function evaluateFiles(
  path: string,
  options: EvaluateOptions,
): Promise<{ text: string; code: number }> {
  const engine = new Engine();
  const bar = new Bar();
  try {
    const dir = resolve(path);
    const bundle = await readBundle(dir);
    // No split is drawn: films without a split all belong to one.
    const read = (data: string): Promise<Dataset> =>
      readDataset(data, {
        validation: 0,
        masked: bundle.kind === 'segmenter',
        boxed: bundle.kind === 'detector',
        ...manifestOptionsOf(options),
      });
    const dataset = await (options.reviews === undefined
      ? read(dataOf(options))
      : withManifest(options.reviews === true ? 'pipeline.yaml' : options.reviews, read));
    if (dataset.leftOut.length > 0) {
      process.stderr.write(`left out (not images): ${dataset.leftOut.join(', ')}\n`);
    }
    const warnings = overlaps(bundle, dataset, options.split);
    for (const warning of warnings) process.stderr.write(`${pc.yellow(warning)}\n`);
    const stateDir = resolve(options.cache);
    const request = {
      dir,
      bundle,
      dataset,
      split: options.split,
      normal: options.normal,
      method: options.method,
      cacheDir: stateDir,
      baseDir: process.cwd(),
      rxray: version,
      shortcuts: options.report !== undefined || options.lungs !== undefined,
      lungs: options.lungs === undefined ? undefined : resolve(options.lungs),
      shifts: options.shifts === true,
      onProgress: (phase: string, done: number, total: number) => bar.show(phase, done, total),
    };
    const services = { registry: builtInRegistry(), engine, log: createLog(), stateDir };
    if (bundle.kind === 'segmenter') return await segmenterText(request, services, options);
    if (bundle.kind === 'detector') return await detectorText(request, services, options);
    const evaluation = await evaluateBundle(request, services);
    const { split, figures, suite, shortcuts, lungEnergy, unreadable, bootstrap } = evaluation;
    const { duplicates } = dataset;
    const about = { model: bundle.name, kind: bundle.kind, split };
    const summary = {
      ...about,
      ...figures,
      ...suite,
      ...(shortcuts.length > 0 && { shortcuts }),
      ...(lungEnergy !== undefined && { lungEnergy }),
      duplicates,
      unreadable,
      bootstrap,
      warnings,
    };
    if (options.report !== undefined) {
      const report = resolve(options.report);
      const { explain, filmsToExplain, writeReport } = await import('../training/report/index.js');
      const explanation = await explain(dir, bundle, evaluation, filmsToExplain(evaluation), engine);
      const command = ['rxray', ...process.argv.slice(2)].join(' ');
      await writeReport(
        report,
        { evaluation, bundle, explanation, command, rxray: version, warnings },
        summary,
      );
    }
    return printed(options, summary, evaluation, [
      headingOf(bundle.name, figures.n, split),
      ...(evaluation.kind === 'classifier'
        ? classifierLines(evaluation.figures, dataset.classes)
        : anomalyLines(evaluation.figures)),
      ...(shortcuts.length === 0 ? [] : shortcutLines(evaluation)),
      ...(suite === undefined ? [] : suiteLines(suite)),
    ]);
  } catch (error) {
    return { text: usageErrorText(error), code: EXIT.usage };
  } finally {
    bar.end();
    await engine.dispose();
  }
}

function dataOf({ data }: EvaluateOptions): string {
  if (data !== undefined) return data;
  throw new RxrayError('TRAINING_DATA', 'give films: --data PATH, or --reviews [PIPELINE]');
}

/** Reads the reviewed films of a pipeline as a manifest. Throws TRAINING_DATA when there are none with a class. */
async function withManifest<T>(pipeline: string, read: (manifest: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-reviews-'));
  try {
    const manifest = join(folder, 'reviews.csv');
    const { text, films } = manifestOf(await latestOf(pipeline), manifest);
    if (films === 0) throw new RxrayError('TRAINING_DATA', NONE_REVIEWED);
    await writeFile(manifest, text);
    return await read(manifest);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** The same for a segmenter. */
async function segmenterText(
  request: EvaluationRequest,
  services: ModelServices,
  options: EvaluateOptions,
): Promise<{ text: string; code: number }> {
  const { evaluateSegmenter } = await import('../training/evaluation/segmentation.js');
  const evaluation = await evaluateSegmenter(request, services);
  const { split, figures, shifts, unreadable, bootstrap } = evaluation;
  const { name } = request.bundle;
  const summary = { model: name, split, ...figures, ...(shifts && { shifts }), unreadable, bootstrap };
  if (options.report !== undefined) {
    const { writeSegmentationReport } = await import('../training/report/index.js');
    const command = ['rxray', ...process.argv.slice(2)].join(' ');
    await writeSegmentationReport(resolve(options.report), name, evaluation, { summary, command });
  }
  const row = rows(figures.intervals);
  return printed(options, summary, evaluation, [
    headingOf(name, figures.films, split),
    row('Dice', figures.dice, 'dice'),
    row('Dice, fifth percentile', figures.diceFifthPercentile, 'diceFifthPercentile'),
    row('IoU', figures.iou, 'iou'),
    row("HD95, in % of the film's diagonal", figures.hd95, 'hd95'),
    row("ASSD, in % of the film's diagonal", figures.assd, 'assd'),
    ...(shifts === undefined ? [] : shiftedMasksLines(shifts)),
  ]);
}

function shiftedMasksLines(shifts: readonly ShiftedMasks[]): string[] {
  return [
    '',
    ALTERED,
    columns([
      ['shift', 'Dice', 'fifth percentile', 'HD95'],
      ...shifts.map(({ name, dice, diceFifthPercentile, hd95, intervals }) => [
        name,
        cell(dice, intervals.dice),
        cell(diceFifthPercentile),
        cell(hd95),
      ]),
    ]),
  ];
}

/** The same for a model that answers with boxes. */
async function detectorText(
  request: EvaluationRequest,
  services: ModelServices,
  options: EvaluateOptions,
): Promise<{ text: string; code: number }> {
  const { evaluateDetector } = await import('../training/evaluation/detection.js');
  const evaluation = await evaluateDetector(request, services);
  const { split, figures, floor, unreadable, bootstrap } = evaluation;
  const { name } = request.bundle;
  const summary = { model: name, split, ...figures, floor, unreadable, bootstrap };
  if (options.report !== undefined) {
    const { writeDetectionReport } = await import('../training/report/index.js');
    const command = ['rxray', ...process.argv.slice(2)].join(' ');
    await writeDetectionReport(resolve(options.report), name, evaluation, { summary, command });
  }
  const row = rows(figures.intervals);
  const froc = figures.froc.map(
    ({ falsePositives, sensitivity }) => `${sensitivity?.toFixed(3) ?? '–'} at ${falsePositives}`,
  );
  return printed(options, summary, evaluation, [
    `${headingOf(name, figures.films, split)} with ${figures.boxes} boxes`,
    row('mAP@0.5', figures.map50, 'map50'),
    row('mAP@0.5:0.95 (COCO)', figures.map, 'map'),
    row('mAP@0.4:0.75 (RSNA)', figures.mapRsna, 'mapRsna'),
    row('sensitivity at 1 false positive per film', figures.sensitivityAt1, 'sensitivityAt1'),
    `sensitivity by false positives per film: ${froc.join(', ')}`,
    rows(floor.intervals)('floor: mAP@0.5 of one box at the mean place', floor.map50, 'map50'),
  ]);
}

function headingOf(name: string, films: number, split: string): string {
  return `${name} on ${films} films${split === 'all' ? '' : ` of the split "${split}"`}`;
}

/** The summary as JSON, or for people: a heading, what could not be read, and the figures. */
function printed(
  { json }: EvaluateOptions,
  summary: object,
  { unreadable, bootstrap }: Pick<Evaluation, 'unreadable' | 'bootstrap'>,
  [heading = '', ...lines]: readonly string[],
): { text: string; code: number } {
  const { resamples, unit } = bootstrap;
  const forPeople = [
    pc.bold(heading),
    ...unreadableLines(unreadable),
    ...lines,
    pc.dim(`In brackets: 95 % intervals, ${resamples} bootstrap samples by ${unit}.`),
    NOTICE,
  ];
  return {
    text: json ? JSON.stringify(summary) : forPeople.join('\n'),
    code: unreadable.length === 0 ? EXIT.fine : EXIT.filmsFailed,
  };
}

/** A heading and one line per unreadable film; empty if all could be read. */
function unreadableLines(unreadable: Evaluation['unreadable']): string[] {
  if (unreadable.length === 0) return [];
  return [
    pc.yellow(`${unreadable.length} could not be read:`),
    ...unreadable.map(({ film, reason }) => `  ${film}: ${reason}`),
    '',
  ];
}

function classifierLines(figures: ClassifierFigures, classes: readonly string[]): string[] {
  const { intervals, perClass, labels, confusion, binary } = figures;
  const unknown = classes.filter((name) => !labels.some((label) => same(label, name)));
  const row = rows(intervals);
  return [
    ...(figures.accuracy === null
      ? [`The model has no label for ${unknown.join(', ')}: only normal against the rest is evaluated.`]
      : [
          row('accuracy', figures.accuracy, 'accuracy'),
          row('balanced accuracy', figures.balancedAccuracy, 'balancedAccuracy'),
          row('AUROC, mean of one against the rest', figures.auroc, 'auroc'),
          row('calibration error (ECE)', figures.ece, 'ece'),
          '',
          ...Object.entries(perClass).map(
            ([label, each]) =>
              `${label}: ${each.n} films, ${rows(each.intervals)('recall', each.recall, 'recall')}, ` +
              rows(each.intervals)('AUROC', each.auroc, 'auroc'),
          ),
          '',
          ...confusion.map(
            (counts, i) =>
              `${labels[i] ?? ''} called ${labels.map((l, j) => `${l} ${counts[j] ?? 0}`).join(', ')}`,
          ),
        ]),
    ...(binary === null ? [] : ['', ...binaryLines(binary)]),
  ];
}

function cell(value: number | null, range: Interval | null = null): string {
  if (value === null) return '–';
  return `${value.toFixed(3)}${range === null ? '' : ` (${range[0].toFixed(3)}–${range[1].toFixed(3)})`}`;
}

/** A row per part that is black, then where the evidence is. */
function shortcutLines({ figures, shortcuts, lungEnergy }: Evaluation): string[] {
  const rowOf = (name: string, { binary }: Evaluation['figures']): string[] => [
    name,
    ...[binary?.auroc, binary?.sensitivity, binary?.specificity].map((value) => cell(value ?? null)),
  ];
  const lines = [
    '',
    'The same films with a part of them black:',
    columns([
      ['films', 'AUROC', 'sensitivity', 'specificity'],
      rowOf('as they are', figures),
      ...shortcuts.map((part) => rowOf(part.name, part.figures)),
    ]),
  ];
  if (lungEnergy === undefined) return lines;
  const { masks, implausible, intervals } = lungEnergy;
  const row = rows(intervals);
  const found = masks === 'given' ? 'given' : `found by ${masks}, not plausible on ${implausible} films`;
  const parts = [
    row('evidence inside the lungs (Grad-CAM)', lungEnergy.energy, 'energy'),
    row("lungs' share of the film", lungEnergy.area, 'area'),
    row('ratio', lungEnergy.ratio, 'ratio'),
  ];
  return [...lines, `${parts.join(', ')}; lungs: ${found}`];
}

const ALTERED = 'The same films, altered as other machines would produce them:';

/** A row per shift, then the worst of all. */
function suiteLines({ shifts, worst }: ShiftSuite): string[] {
  return [
    '',
    ALTERED,
    columns([
      ['shift', 'AUROC', 'sensitivity', 'specificity', 'ECE'],
      ...shifts.map(({ name, intervals, ...of }) => [
        name,
        cell(of.auroc, intervals.auroc),
        cell(of.sensitivity),
        cell(of.specificity, intervals.specificity),
        cell(of.ece),
      ]),
    ]),
    ...(['auroc', 'specificity', 'ece'] as const).flatMap((figure) => {
      const found = worst[figure];
      return found === null ? [] : [`worst ${WORST[figure]}: ${found.value.toFixed(3)} (${found.shift})`];
    }),
  ];
}

const WORST = { auroc: 'AUROC', specificity: 'specificity', ece: 'calibration error' } as const;

function anomalyLines(figures: AnomalyFigures): string[] {
  const baselines = Object.entries(figures.baselines).map(([name, { auroc, interval }]) =>
    rows({ auroc: interval })(`baseline, AUROC of ${name}`, auroc, 'auroc'),
  );
  return [...binaryLines(figures.binary), ...baselines, `${figures.msPerFilm.toFixed(1)} ms per film`];
}

function binaryLines(figures: BinaryFigures): string[] {
  const row = rows(figures.intervals);
  return [
    `"${figures.normal}" against the rest, at the threshold ${figures.threshold.toFixed(3)}, ${figures.thresholdFrom}:`,
    row('AUROC', figures.auroc, 'auroc'),
    row('AUPR', figures.aupr, 'aupr'),
    row('accuracy', figures.accuracy, 'accuracy'),
    row('sensitivity', figures.sensitivity, 'sensitivity'),
    row('specificity', figures.specificity, 'specificity'),
    row('sensitivity at 90 % specificity', figures.sensitivityAt90Specificity, 'sensitivityAt90Specificity'),
    row('sensitivity at 95 % specificity', figures.sensitivityAt95Specificity, 'sensitivityAt95Specificity'),
  ];
}

function rows(
  intervals: Readonly<Record<string, Interval | null>>,
): (what: string, value: number | null, name: string) => string {
  return (what, value, name) => {
    const found = intervals[name];
    const range = found == null ? '' : ` (${found[0].toFixed(3)}–${found[1].toFixed(3)})`;
    return `${what} ${value === null ? '–' : value.toFixed(3)}${range}`;
  };
}
