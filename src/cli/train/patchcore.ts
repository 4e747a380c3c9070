import { Option, type Command } from 'commander';
import { resolve } from 'node:path';
import type { PatchLayer } from '../../models/patch-core.js';
import { PRETEXT_AUGMENTATION } from '../../training/augment.js';
import { positive, share } from '../numbers.js';
import {
  augmentationOf,
  common,
  listOf,
  sizeOption,
  type CommonOptions,
  type SizeOption,
} from './options.js';
import { run, usualChain } from './run.js';

/** Of a ResNet, and of an AnoGAN's discriminator. */
const LAYERS = ['stage1', 'stage2', 'stage3', 'stage4', 'down1', 'down2', 'down3', 'down4'] as const;

interface Options extends CommonOptions, SizeOption {
  readonly normal: string;
  readonly features?: string;
  readonly layers: PatchLayer[];
  readonly axes: number;
  readonly coreset: number;
  readonly byPlace: boolean;
  readonly score: 'mean' | 'max';
  readonly half?: true;
}

/** `rxray train patchcore`. */
export function trainPatchcore(train: Command): void {
  sizeOption(common(train.command('patchcore'), { width: 16, epochs: 20, batch: 32, lr: 0.05 }))
    .description('Fills a memory with patches of the normal films (PatchCore).')
    .option('--normal <class>', 'the class that is normal', 'normal')
    .option(
      '--features <bundle>',
      "a bundle to take the network from, instead of training one: an AnoGAN's, or (supervised) a classifier's",
    )
    .option(
      '--layers <names>',
      `layers whose features describe a patch: ${LAYERS.join(', ')}`,
      listOf(LAYERS),
      ['stage3'],
    )
    .option('--axes <n>', 'number of principal axes of the features to keep', positive, 64)
    .option('--coreset <0..1>', 'share of the patches that the memory keeps', share, 0.2)
    .option('--no-by-place', 'one memory for the whole film, instead of one per position')
    .option('--half', 'store the weights in half precision')
    .addOption(
      new Option(
        '--score <name>',
        "a film's score: the mean over its patches, or the maximum as in the paper",
      )
        .choices(['mean', 'max'])
        .default('mean'),
    )
    .addHelpText(
      'after',
      '\nExamples:\n  $ rxray train patchcore --data films/manifest.csv --out models/chest-patchcore' +
        '\n  $ rxray train patchcore --data films --features models/chest-anogan --size 64 --layers down4 --axes 16 --out models/patches',
    )
    .action(async (options: Options) => {
      const { makePatchcore } = await import('../../training/patchcore-bundle.js');
      await run(options, usualChain(options.size), (recipe, engine, stop, report) =>
        makePatchcore(
          recipe,
          engine,
          options.normal,
          {
            half: options.half === true,
            layers: options.layers,
            memory: {
              axes: options.axes,
              coreset: options.coreset,
              byPlace: options.byPlace,
              score: options.score,
              seed: options.seed,
            },
            network:
              options.features === undefined
                ? {
                    pretext: {
                      width: options.width,
                      epochs: options.epochs,
                      batchSize: options.batch,
                      learningRate: options.lr,
                      weightDecay: 5e-4,
                      seed: options.seed,
                      augmentation: augmentationOf(options.augment, PRETEXT_AUGMENTATION),
                    },
                  }
                : { bundle: resolve(options.features) },
          },
          {
            ...stop,
            onStep: report.step,
            onEpoch: (row) => {
              report.epoch(
                row,
                `epoch ${row.epoch}/${options.epochs}  loss ${row.loss.toFixed(4)}  ` +
                  `patches found ${row.accuracy.toFixed(3)}  ${row.seconds.toFixed(1)} s`,
              );
            },
          },
        ),
      );
    });
}
