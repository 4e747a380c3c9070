import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { UNET_UPSAMPLING, type UnetUpsampling } from '../../models/index.js';
import { SEGMENTATION_AUGMENTATION } from '../../training/augment.js';
import { number, positive, share, whole } from '../numbers.js';
import { augmentationOf, common, type CommonOptions } from './options.js';
import { run } from './run.js';

interface Options extends CommonOptions {
  readonly size: number;
  readonly poolings: number;
  readonly batchNorm: boolean;
  readonly upsampling: UnetUpsampling;
  readonly schedule: 'cosine' | 'step' | 'constant';
  readonly warmUp: number;
  readonly weightDecay: number;
  readonly diceShare: number;
  readonly patience: number;
  readonly half?: true;
  readonly init?: string;
}

const EXAMPLES = `
Examples:
  $ rxray train unet --data lungs --out models/lungs                   lungs/images/*.png and lungs/masks/*.png
  $ rxray train unet --data lungs.csv --out models/lungs --epochs 30   a manifest with the columns path and mask`;

/** `rxray train unet`. */
export function trainUnet(train: Command): void {
  common(train.command('unet'), { width: 16, epochs: 20, batch: 8, lr: 0.002 })
    .description('Trains a U-Net that segments a structure, such as the lungs.')
    .option('--size <pixels>', 'side of the image that the network sees', positive, 128)
    .option('--poolings <n>', 'number of poolings', positive, 4)
    .option('--no-batch-norm', 'convolutions with a bias instead of batch normalisation')
    .addOption(
      new Option('--upsampling <name>', 'nearest: a 1×1 convolution and each pixel four times')
        .choices(UNET_UPSAMPLING)
        .default('nearest'),
    )
    .addOption(
      new Option('--schedule <name>', 'how the learning rate falls')
        .choices(['cosine', 'step', 'constant'])
        .default('cosine'),
    )
    .option('--warm-up <epochs>', 'epochs in which the learning rate rises to its peak', whole, 1)
    .option('--weight-decay <number>', 'of the weights', number, 1e-4)
    .option('--dice-share <0..1>', 'of the Dice loss; the rest is cross-entropy', share, 0.5)
    .option('--patience <epochs>', 'stop after this many epochs without a better validation', positive, 10)
    .option('--init <bundle>', 'start from the weights of another U-Net of the same width and poolings')
    .option('--half', 'store the weights in half precision')
    .addHelpText('after', EXAMPLES)
    .action(async (options: Options) => {
      const { makeSegmenter } = await import('../../training/segmenter-bundle.js');
      const chain = [
        { use: 'decode', with: {} },
        { use: 'resize', with: { width: options.size, height: options.size } },
      ];
      await run({ ...options, masked: true }, chain, (recipe, engine, stop, report) =>
        makeSegmenter(
          recipe,
          engine,
          {
            width: options.width,
            poolings: options.poolings,
            batchNorm: options.batchNorm,
            upsampling: options.upsampling,
            epochs: options.epochs,
            batchSize: options.batch,
            learningRate: options.lr,
            schedule: options.schedule,
            weightDecay: options.weightDecay,
            warmupEpochs: options.warmUp,
            diceShare: options.diceShare,
            patience: options.patience,
            seed: options.seed,
            augmentation: augmentationOf(options.augment, SEGMENTATION_AUGMENTATION),
          },
          {
            half: options.half === true,
            ...(options.init !== undefined && { init: resolve(options.init) }),
          },
          {
            ...stop,
            onStep: (done, total, epoch, loss) => {
              report.bar(`epoch ${epoch}`, done, total, `loss ${loss.toFixed(4)}`);
            },
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
