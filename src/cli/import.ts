import { createRequire } from 'node:module';
import { basename, resolve } from 'node:path';
import { isCancel, select, text } from '@clack/prompts';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { RxrayError } from '../core/errors.js';
import { MAX_TIMER_MS } from '../core/plugin.js';
import { Engine, readOnnx } from '../engine/index.js';
import { INTERPOLATIONS, type Interpolation } from '../plugins/resize.js';
import { ACTIVATIONS, type Activation, type PreprocessingStep } from '../models/bundle.js';
import {
  importClassifier,
  meaningInWords,
  openOnnxClassifier,
  type OnnxInput,
} from '../training/import-classifier.js';
import { NOT_STATED, UNKNOWN } from '../training/card.js';
import { importDetector, openOnnxDetector, type OnnxDetector } from '../training/import-detector.js';
import { labelsWith, readLabels, usualHealthyLabels } from '../training/labels.js';
import { requireBundlePlace } from '../training/write-bundle.js';
import { builtInRegistry } from '../host/builtins.js';
import { EXIT } from './exit.js';
import { createLog } from './log.js';
import { chainFile } from './train/run.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

interface Flags {
  readonly out: string;
  readonly labels?: string;
  readonly layout?: 'NHWC' | 'NCHW';
  readonly size?: number;
  readonly channels?: '1' | '3';
  readonly range?: number[];
  readonly mean?: number[];
  readonly std?: number[];
  readonly activation?: Activation;
  readonly multiLabel?: true;
  readonly thresholds?: string;
  readonly healthy?: string;
  readonly output?: string;
  readonly interpolation?: Interpolation;
  readonly preprocess?: string;
  readonly film?: string;
  readonly license: string;
  readonly source: string;
  readonly timeout: number;
  readonly json?: true;
}

/** Seconds that the model may take to load, and for each answer. */
const TIMEOUT_S = 120;

const EXAMPLES = `
Examples:
  $ rxray import model.onnx --out models/mine          labels from its metadata, or from labels.txt beside it
  $ rxray import resnet18.onnx --out models/mine --labels normal,opacity --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  $ rxray import xrv.onnx --out models/xrv --labels labels.txt --activation sigmoid --range=-1024,1024 --film film.png
  $ rxray import retinanet.onnx --out models/boxes --labels background,opacity      torchvision's boxes, scores, labels

In a terminal it asks for what the file leaves open.
The model is run on one film (--film, or a phantom): check that its result is plausible. It runs in a
process of its own, which is ended when an answer takes longer than --timeout.
Exit codes: 0 fine, 2 wrong usage or a model that does not match the options, 3 fatal.`;

export function importCommand(program: Command): void {
  program
    .command('import')
    .argument('<model>', 'an ONNX classifier or detector: an export of torchvision, timm, torchxrayvision, …')
    .requiredOption('--out <dir>', "the bundle's folder")
    .option(
      '--labels <names|file>',
      'its classes in order: a,b,c; a file with one class per line; or JSON (default: from its metadata, or a file beside it)',
    )
    .addOption(
      new Option(
        '--activation <name>',
        'what turns its output into probabilities: softmax (one label), sigmoid (findings that may occur together), none (the output is probabilities) (default: found from its graph and its output)',
      ).choices(ACTIVATIONS),
    )
    .option('--multi-label', 'its labels are findings that may occur together')
    .option('--thresholds <numbers>', 'threshold of a finding: 0.4, or Effusion=0.3,Mass=0.6 (default: 0.5)')
    .option('--healthy <labels>', 'the labels of healthy films (default: one called "normal" or similar)')
    .option('--output <name>', 'which of several outputs has the scores')
    .addOption(new Option('--layout <name>', 'order of its input').choices(['NHWC', 'NCHW']))
    .option('--size <pixels>', 'side of its input', (value) => numbers(1)(value)[0])
    .addOption(new Option('--channels <n>', 'of its input').choices(['1', '3']))
    .option('--range <low,high>', 'values of black and white before mean and std (default: 0,1)', numbers(2))
    .option('--mean <numbers>', 'in units of the range, one or one per channel (default: 0)', numbers(1, 3))
    .option('--std <numbers>', 'likewise (default: 1)', numbers(1, 3))
    .addOption(
      new Option(
        '--interpolation <name>',
        "how films were resized in its training: pil-bilinear is torchvision's and timm's default (default: area)",
      ).choices(INTERPOLATIONS),
    )
    .option('--preprocess <file>', 'YAML list of the stages before it (default: decode, resize)')
    .option('--film <file>', 'a film to try it on (default: a phantom)')
    .option(
      '--timeout <seconds>',
      'how long the model may take to load, and for each film it is tried on',
      secondsOf,
      TIMEOUT_S,
    )
    .option('--license <id>', 'of the weights (SPDX)', UNKNOWN)
    .option('--source <text>', 'where the model comes from', NOT_STATED)
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (model: string, flags: Flags) => {
      process.exitCode = await importModel(model, flags);
    });
}

/** Returns the exit code. */
async function importModel(model: string, flags: Flags): Promise<number> {
  // An untested model may never return, or end its process.
  const engine = new Engine({ apart: true, limitMs: 1000 * flags.timeout });
  try {
    const out = resolve(flags.out);
    await requireBundlePlace(out);
    const detector = await openOnnxDetector(model, engine);
    if (detector !== undefined) return await importBoxes(model, detector, flags, out, engine);
    const opened = await openOnnxClassifier(model, engine);
    const known = await complete(flags, opened.images, await labelsOf(model, opened.bytes));
    if (known === undefined) return EXIT.usage;
    const { width, height } = known;
    const chain = await chainOf(flags, width, height, known.interpolation);
    const { license, source, film } = flags;
    const { labels } = known;
    const settings = {
      ...known,
      ...{ chain, license, source, name: basename(out), output: flags.output },
      multiLabel: flags.multiLabel,
      thresholds: thresholdsOf(flags.thresholds, labels),
      healthy: healthyOf(flags.healthy, labels),
    };
    const services = { registry: builtInRegistry(), engine, log: createLog(), rxray: version };
    const { bundle, result, decided } = await importClassifier(opened, settings, out, film, services);
    const { activation, multiLabel, healthy = [] } = bundle;
    if (flags.json) {
      const answer = result.probabilities;
      console.log(JSON.stringify({ bundle: out, activation, multiLabel, decided, healthy, answer }));
      return EXIT.fine;
    }
    const best = result.topK.map(({ label, probability }) => `${label} ${(100 * probability).toFixed(1)} %`);
    console.log(`${out}: its output is read as ${meaningInWords(bundle)} (${decided}).`);
    if (multiLabel !== true) {
      const which = healthy.length === 0 ? 'no label means' : `${healthy.join(', ')} means`;
      console.log(`${which} a healthy film (--healthy).`);
    }
    console.log(`For ${film ?? 'a phantom film'} it gives: ${best.join(', ')}. Is that plausible?`);
    console.log('Not a medical device.');
    return EXIT.fine;
  } catch (error) {
    if (!(error instanceof RxrayError)) throw error;
    process.stderr.write(`${error.code} ${error.message}\n`);
    return EXIT.usage;
  } finally {
    await engine.dispose();
  }
}

/** The same for a model that answers with boxes. */
async function importBoxes(
  model: string,
  detector: OnnxDetector,
  flags: Flags,
  out: string,
  engine: Engine,
): Promise<number> {
  const brought = await labelsOf(model, detector.bytes);
  const known = await complete({ activation: 'none', ...flags }, detector.images, brought);
  if (known === undefined) return EXIT.usage;
  const { width, height, labels } = known;
  const { license, source, film } = flags;
  const settings = {
    ...known,
    ...{ license, source, name: basename(out) },
    chain: await chainOf(flags, width, height, known.interpolation),
    thresholds: thresholdsOf(flags.thresholds, labels),
  };
  const services = { registry: builtInRegistry(), engine, log: createLog(), rxray: version };
  const { result } = await importDetector(detector, settings, out, film, services);
  if (flags.json) {
    console.log(JSON.stringify({ bundle: out, labels, answer: result.boxes }));
    return EXIT.fine;
  }
  const found = result.boxes.map(({ label, score, x, y, width: w, height: h }) => {
    return `${label} ${(100 * score).toFixed(1)} % at ${x}, ${y}, ${w} × ${h}`;
  });
  console.log(`${out}: a detector of ${labels.join(', ')} (the first label has the number 0).`);
  console.log(
    `For ${film ?? 'a phantom film'}, at ${width}×${height} pixels, it gives: ${found.join('; ') || 'no box'}. Is that plausible?`,
  );
  console.log('Not a medical device.');
  return EXIT.fine;
}

async function chainOf(
  { preprocess }: Pick<Flags, 'preprocess'>,
  width: number,
  height: number,
  interpolation: Interpolation,
): Promise<readonly PreprocessingStep[]> {
  if (preprocess !== undefined) return chainFile(preprocess, builtInRegistry(), process.cwd());
  return [
    { use: 'decode', with: {} },
    { use: 'resize', with: { width, height, interpolation } },
  ];
}

/** Adds what the file contains, then the user's answers; undefined if something is still missing. */
async function complete(flags: Flags, input: OnnxInput, brought: Brought) {
  const interactive = process.stdin.isTTY && process.stdout.isTTY;
  const missing: string[] = [];
  const ask = async (option: string, message: string, placeholder: string): Promise<string | undefined> => {
    const answer = interactive ? await text({ message, placeholder, defaultValue: placeholder }) : undefined;
    if (typeof answer === 'string') return answer;
    missing.push(option);
    return undefined;
  };
  const layout =
    flags.layout ?? input.layout ?? (interactive ? await askLayout() : (missing.push('--layout'), undefined));
  const side =
    flags.size === undefined ? await sideOf(input, ask) : { width: flags.size, height: flags.size };
  const channels =
    (flags.channels === undefined ? undefined : (Number(flags.channels) as 1 | 3)) ??
    input.channels ??
    ((await ask('--channels', 'How many channels does its input have, 1 or 3?', '3')) === '1' ? 1 : 3);
  const labels = await labelsFrom(flags.labels, brought, () =>
    ask('--labels', 'Which classes does it have, in order?', 'normal,opacity'),
  );
  const activation = flags.activation ?? (interactive ? await askActivation() : undefined);
  const list = async (
    given: number[] | undefined,
    question: string,
    usual: string,
  ): Promise<readonly number[]> => {
    if (given !== undefined || !interactive) return given ?? usual.split(',').map(Number);
    const answer = await text({ message: question, placeholder: usual, defaultValue: usual });
    return isCancel(answer) ? usual.split(',').map(Number) : numbers(1, 3)(answer);
  };
  const [low = 0, high = 1] = await list(
    flags.range,
    'Which values are black and white?',
    input.bytes ? '0,255' : '0,1',
  );
  const mean = await list(flags.mean, 'Which mean is subtracted?', '0');
  const std = await list(flags.std, 'Which standard deviation divides the values?', '1');
  if (missing.length > 0 || layout === undefined || side === undefined) {
    process.stderr.write(`the model file does not contain everything: give ${missing.join(', ')}\n`);
    return undefined;
  }
  const interpolation =
    flags.interpolation ??
    (interactive && flags.preprocess === undefined ? await askInterpolation() : 'area');
  return {
    ...side,
    layout,
    channels,
    labels,
    activation,
    interpolation,
    range: [low, high] as const,
    mean,
    std,
  };
}

type Brought = Awaited<ReturnType<typeof labelsWith>>;

function labelsOf(model: string, bytes: Uint8Array): Promise<Brought> {
  return labelsWith(model, readOnnx(bytes, 'metadata').metadata);
}

/** From the option, else from the model's files, else from the user's answer. */
async function labelsFrom(
  given: string | undefined,
  brought: Brought,
  ask: () => Promise<string | undefined>,
): Promise<string[]> {
  if (given === undefined && brought !== undefined) {
    process.stderr.write(`labels from ${brought.from}: ${brought.labels.join(', ')}\n`);
    return brought.labels;
  }
  const text = given ?? (await ask());
  return text === undefined ? [] : readLabels(text);
}

async function askActivation(): Promise<Activation | undefined> {
  const options = [
    { value: undefined, label: 'detect', hint: 'from its graph and its output' },
    { value: 'softmax' as const, label: 'softmax', hint: 'logits; one label per film' },
    { value: 'sigmoid' as const, label: 'sigmoid', hint: 'logits; findings that may occur together' },
    { value: 'none' as const, label: 'none', hint: 'they are probabilities' },
  ];
  const answer = await select<Activation | undefined>({
    message: 'What turns its output into probabilities?',
    options,
  });
  return isCancel(answer) ? undefined : answer;
}

async function askInterpolation(): Promise<Interpolation> {
  const hints: Partial<Record<Interpolation, string>> = {
    'pil-bilinear': 'torchvision, timm',
    'pil-bicubic': 'timm, CLIP',
    area: 'OpenCV, scikit-image',
    linear: 'OpenCV, TensorFlow',
  };
  const options = INTERPOLATIONS.map((value) => ({ value, label: value, hint: hints[value] ?? '' }));
  const answer = await select<Interpolation>({ message: 'How were films resized in its training?', options });
  return isCancel(answer) ? 'area' : answer;
}

/** `0.4` for all labels, or `Effusion=0.3,Mass=0.6`. Throws `IMPORT_REFUSED`. */
function thresholdsOf(
  given: string | undefined,
  labels: readonly string[],
): Record<string, number> | undefined {
  if (given === undefined) return undefined;
  const pairs = given.includes('=')
    ? given
        .split(',')
        .map((part) => [part.slice(0, part.lastIndexOf('=')), part.slice(part.lastIndexOf('=') + 1)])
    : labels.map((label) => [label, given]);
  return Object.fromEntries(
    pairs.map(([name = '', text = '']) => {
      const value = text.trim() === '' ? NaN : Number(text);
      if (value >= 0 && value <= 1) return [labelNamed(name, labels), value];
      throw new RxrayError('IMPORT_REFUSED', `expected a threshold from 0 to 1 for "${name}", got "${text}"`);
    }),
  );
}

function healthyOf(given: string | undefined, labels: readonly string[]): string[] {
  if (given === undefined) return usualHealthyLabels(labels);
  return given.trim() === '' ? [] : given.split(',').map((name) => labelNamed(name, labels));
}

function labelNamed(name: string, labels: readonly string[]): string {
  const found = labels.find((label) => label.toLowerCase() === name.trim().toLowerCase());
  if (found !== undefined) return found;
  throw new RxrayError('IMPORT_REFUSED', `there is no label "${name.trim()}": they are ${labels.join(', ')}`);
}

async function askLayout(): Promise<'NHWC' | 'NCHW' | undefined> {
  const options = [
    { value: 'NCHW' as const, label: 'NCHW', hint: 'PyTorch' },
    { value: 'NHWC' as const, label: 'NHWC', hint: 'TensorFlow' },
  ];
  const answer = await select({ message: "In which order are its image's dimensions?", options });
  return isCancel(answer) ? undefined : answer;
}

async function sideOf(
  { width, height }: OnnxInput,
  ask: (option: string, message: string, placeholder: string) => Promise<string | undefined>,
): Promise<{ width: number; height: number } | undefined> {
  if (width !== undefined && height !== undefined) return { width, height };
  const answer = Number(await ask('--size', 'How many pixels does each side of its input have?', '224'));
  return answer > 0 ? { width: answer, height: answer } : undefined;
}

/** The longest timer: 24 days. */
function secondsOf(value: string): number {
  const seconds = Number(value);
  if (seconds > 0 && 1000 * seconds <= MAX_TIMER_MS) return seconds;
  throw new InvalidArgumentError(`expected seconds above 0, at most ${Math.floor(MAX_TIMER_MS / 1000)}`);
}

function numbers(...counts: readonly number[]): (value: string) => number[] {
  return (value) => {
    const list = value.split(',').map((part) => (part.trim() === '' ? NaN : Number(part)));
    if (counts.includes(list.length) && list.every(Number.isFinite)) return list;
    throw new InvalidArgumentError(
      `expected ${counts.join(' or ')} numbers, such as ${counts.includes(3) ? '0.5' : '0,1'}`,
    );
  };
}
