import { Option, type Command } from 'commander';
import { UNET_UPSAMPLING, type UnetUpsampling } from '../../models/index.js';
import { SEGMENTATION_AUGMENTATION } from '../../training/augment.js';
import { positive, share } from '../numbers.js';
import {
  augmentationOf,
  bundleOptionsOf,
  common,
  courseOf,
  supervised,
  type SupervisedOptions,
} from './options.js';
import { plainChain, run } from './run.js';

interface Options extends SupervisedOptions {
  readonly poolings: number;
  readonly batchNorm: boolean;
  readonly upsampling: UnetUpsampling;
  readonly diceShare: number;
}

const EXAMPLES = `
Examples:
  $ rxray train unet --data lungs --out models/lungs                   lungs/images/*.png and lungs/masks/*.png
  $ rxray train unet --data lungs.csv --out models/lungs --epochs 30   a manifest with the columns path and mask`;

/** `rxray train unet`. */
export function trainUnet(train: Command): void {
  supervised(
    common(train.command('unet'), { width: 16, epochs: 20, batch: 8, lr: 0.002 }),
    { weightDecay: 1e-4, patience: 10 },
    'start from the weights of another U-Net of the same width and poolings',
  )
    .description('Trains a U-Net that segments a structure, such as the lungs.')
    .option('--poolings <n>', 'number of poolings', positive, 4)
    .option('--no-batch-norm', 'convolutions with a bias instead of batch normalisation')
    .addOption(
      new Option('--upsampling <name>', 'nearest: a 1×1 convolution and each pixel four times')
        .choices(UNET_UPSAMPLING)
        .default('nearest'),
    )
    .option('--dice-share <0..1>', 'of the Dice loss; the rest is cross-entropy', share, 0.5)
    .addHelpText('after', EXAMPLES)
    .action(async (options: Options) => {
      const { makeSegmenter } = await import('../../training/segmenter-bundle.js');
      await run({ ...options, masked: true }, plainChain(options.size), (recipe, engine, stop, report) =>
        makeSegmenter(
          recipe,
          engine,
          {
            width: options.width,
            poolings: options.poolings,
            batchNorm: options.batchNorm,
            upsampling: options.upsampling,
            diceShare: options.diceShare,
            ...courseOf(options),
            augmentation: augmentationOf(options.augment, SEGMENTATION_AUGMENTATION),
          },
          bundleOptionsOf(options),
          {
            ...stop,
            onStep: report.step,
            onEpoch: (row, best) => {
              report.epoch(
                { ...row, best },
                `epoch ${row.epoch}/${options.epochs}  loss ${row.loss.toFixed(4)}  Dice ${row.dice.toFixed(4)}  ` +
                  `val Dice ${row.valDice.toFixed(4)}${best ? ' *' : '  '}  lr ${row.learningRate.toPrecision(2)}  ` +
                  `idle ${(100 * row.idle).toFixed(0)} %  ${row.seconds.toFixed(0)} s`,
              );
            },
          },
        ),
      );
    });
}
