import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { parse } from 'yaml';
import { z } from 'zod';
import { messageOf } from '../../core/errors.js';
import {
  AUGMENTATIONS,
  augmentationSchema,
  NO_AUGMENTATION,
  type Augmentation,
} from '../../training/augment.js';
import { manifestOptions, type ManifestOptions } from '../manifest-options.js';
import { number, positive, share, whole } from '../numbers.js';

/** Options of every `rxray train …`. */
export interface DataOptions extends ManifestOptions {
  readonly data: string;
  readonly out: string;
  readonly validation: number;
  readonly about?: string;
  readonly seed: number;
  readonly cache: string;
  readonly skipUnreadable?: true;
  readonly json?: true;
}

/** Options of the commands that train a network. */
export interface CommonOptions extends DataOptions {
  readonly preprocess?: string;
  readonly width: number;
  readonly epochs: number;
  readonly batch: number;
  readonly lr: number;
  /** Absent: the default. False: none. */
  readonly augment?: false | Partial<Augmentation>;
  readonly resume?: true;
  readonly maxMinutes?: number;
}

/** Adds the options for the films and the bundle. */
export function dataOptions(command: Command): Command {
  return manifestOptions(
    command
      .requiredOption('--data <path>', 'a manifest (CSV) or a folder of classes')
      .requiredOption('--out <dir>', "the bundle's folder; the checkpoint is beside it"),
  )
    .option(
      '--validation <0..1>',
      'share of the films for validation, if the data name no split',
      share,
      0.12,
    )
    .option('--about <file>', 'YAML with name, license, source and limits of the data, for the model card')
    .option('--seed <n>', 'the same seed gives the same split and the same model', positive, 1)
    .option('--skip-unreadable', 'leave out films that cannot be read, instead of refusing to start')
    .option('--cache <dir>', 'folder for preprocessed films', '.rxray/cache')
    .option('--json', 'print one JSON line per epoch, and the bundle at the end');
}

/** Adds those and the options of a training. `usual` are the defaults. */
export function common(
  command: Command,
  usual: { width: number; epochs: number; batch: number; lr: number },
): Command {
  return dataOptions(command)
    .option(
      '--preprocess <file>',
      'YAML list of the stages before the model (default: decode, clahe, resize)',
    )
    .option(
      '--width <channels>',
      'channels of the narrowest layer; 64 is the standard network',
      positive,
      usual.width,
    )
    .option('--epochs <n>', 'passes over the films', positive, usual.epochs)
    .option('--batch <n>', 'films per step', positive, usual.batch)
    .option('--lr <number>', 'learning rate at its peak', number, usual.lr)
    .option(
      '--augment <key=value,…|name|file>',
      'augmentation, e.g. flip=0.5,rotate=20; chest, gentle, elsewhere or original; or a YAML file',
      augmentation,
    )
    .option('--no-augment', 'no augmentation')
    .option('--resume', 'resume from the checkpoint')
    .option('--max-minutes <n>', 'stop after this many minutes and write the best model so far', number);
}

/** The default of `--size`. */
export const USUAL_SIDE = 128;

/** Of the commands whose network takes images of any size. Absent: the default, or what `--preprocess` says. */
export interface SizeOption {
  readonly size?: number;
}

/** Adds it. */
export function sizeOption(command: Command): Command {
  return command.option(
    '--size <pixels>',
    `side of the image that the network sees (default: ${USUAL_SIDE}, or as --preprocess says)`,
    positive,
  );
}

/** Options of the commands that train a network with labels, masks or boxes. */
export interface SupervisedOptions extends CommonOptions, SizeOption {
  readonly schedule: 'cosine' | 'step' | 'constant';
  readonly warmUp: number;
  readonly weightDecay: number;
  readonly patience: number;
  readonly half?: true;
  readonly init?: string;
}

/** Adds those options beyond {@link common}. `usual` are the defaults; `init` says what a training may start from. */
export function supervised(
  command: Command,
  usual: { weightDecay: number; patience: number },
  init: string,
): Command {
  return sizeOption(command)
    .addOption(
      new Option('--schedule <name>', 'how the learning rate falls')
        .choices(['cosine', 'step', 'constant'])
        .default('cosine'),
    )
    .option('--warm-up <epochs>', 'epochs in which the learning rate rises to its peak', whole, 1)
    .option('--weight-decay <number>', 'of the weights', number, usual.weightDecay)
    .option(
      '--patience <epochs>',
      'stop after this many epochs without a better validation',
      positive,
      usual.patience,
    )
    .option('--init <bundle>', init)
    .option('--half', 'store the weights in half precision');
}

/** What these options say of the training's course. */
export function courseOf(options: SupervisedOptions): {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  readonly schedule: SupervisedOptions['schedule'];
  readonly weightDecay: number;
  readonly warmupEpochs: number;
  readonly patience: number;
  readonly seed: number;
} {
  const { epochs, batch, lr, schedule, weightDecay, warmUp, patience, seed } = options;
  return {
    epochs,
    batchSize: batch,
    learningRate: lr,
    schedule,
    weightDecay,
    warmupEpochs: warmUp,
    patience,
    seed,
  };
}

/** How the bundle is stored, and which one the weights are from. */
export function bundleOptionsOf({ half, init }: SupervisedOptions): {
  readonly half: boolean;
  readonly init?: string;
} {
  return { half: half === true, ...(init !== undefined && { init: resolve(init) }) };
}

/** The given settings override single default ones. */
export function augmentationOf(given: CommonOptions['augment'], usual: Augmentation): Augmentation {
  return given === false ? NO_AUGMENTATION : { ...usual, ...given };
}

/** `flip=0.5,rotate=20`, or the name of a set or of a YAML file with such settings. */
function augmentation(text: string): Partial<Augmentation> {
  const named = AUGMENTATIONS[text];
  if (named !== undefined) return named;
  const parsed = augmentationSchema.partial().safeParse(text.includes('=') ? pairs(text) : yaml(text));
  if (parsed.success) return parsed.data as Partial<Augmentation>;
  const known = Object.keys(augmentationSchema.shape).join(', ');
  throw new InvalidArgumentError(`${z.prettifyError(parsed.error)}\nknown are ${known}`);
}

/** A range is written `low:high`. */
function pairs(text: string): Record<string, unknown> {
  const numberOf = (part: string): number => (part.trim() === '' ? NaN : Number(part));
  return Object.fromEntries(
    text.split(',').map((pair) => {
      const [key = '', value = ''] = pair.split('=');
      return [key.trim(), value.includes(':') ? value.split(':').map(numberOf) : numberOf(value)];
    }),
  );
}

function yaml(path: string): unknown {
  try {
    return parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new InvalidArgumentError(
      `expected settings, ${Object.keys(AUGMENTATIONS).join(', ')}, or a YAML file; ${messageOf(cause)}`,
    );
  }
}

export function oneOf(...values: readonly number[]): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!values.includes(value)) throw new InvalidArgumentError(`expected ${values.join(', ')}`);
    return value;
  };
}

/** Names out of a fixed list, with commas between. */
export function listOf<T extends string>(names: readonly T[]): (text: string) => T[] {
  return (text) =>
    text.split(',').map((part) => {
      const found = names.find((name) => name === part.trim());
      if (found === undefined) throw new InvalidArgumentError(`expected some of ${names.join(', ')}`);
      return found;
    });
}
