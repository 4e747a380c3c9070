import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { BOX_LOSSES, type BoxLoss } from '../../models/retinanet.js';
import { DETECTION_AUGMENTATION } from '../../training/augment.js';
import { number, positive, whole } from '../numbers.js';
import { augmentationOf, common, oneOf, type CommonOptions } from './options.js';
import { run } from './run.js';

interface Options extends CommonOptions {
  readonly depth: number;
  readonly channels?: number;
  readonly headLayers: number;
  readonly anchorSize?: number;
  readonly boxLoss: BoxLoss;
  readonly size: number;
  readonly schedule: 'cosine' | 'step' | 'constant';
  readonly warmUp: number;
  readonly weightDecay: number;
  readonly patience: number;
  readonly half?: true;
  readonly init?: string;
}

const EXAMPLES = `
Examples:
  $ rxray phantoms films && rxray train retinanet --data films/boxes.csv --out models/boxes
  $ rxray train retinanet --data coco.json --directory films --out models/boxes --depth 50 --width 64 --size 512
  $ rxray train retinanet --data boxes.csv --out models/boxes --init models/chest-resnet --width 48

A table of boxes has a line for each: path, label, x, y, w, h, in pixels of the film from its upper left corner. A film
without boxes has one line with an empty label. The columns split and patient count where they are there.`;

/** `rxray train retinanet`. */
export function trainRetinanet(train: Command): void {
  common(train.command('retinanet'), { width: 16, epochs: 30, batch: 8, lr: 0.001 })
    .description('Trains a RetinaNet that finds boxes around something, such as opacities.')
    .option('--depth <18|34|50>', 'layers of the ResNet', oneOf(18, 34, 50), 18)
    .option(
      '--channels <n>',
      'channels of the pyramid and of the heads; 256 is the standard (default: four times --width)',
      positive,
    )
    .option('--head-layers <n>', 'convolutions of each head before its last', positive, 2)
    .option(
      '--anchor-size <pixels>',
      'side of the smallest anchor (default: 32, or an eighth of a smaller image)',
      positive,
    )
    .addOption(new Option('--box-loss <name>', 'of the boxes').choices(BOX_LOSSES).default('smooth-l1'))
    .option('--size <pixels>', 'side of the image that the network sees', positive, 128)
    .addOption(
      new Option('--schedule <name>', 'how the learning rate falls')
        .choices(['cosine', 'step', 'constant'])
        .default('cosine'),
    )
    .option('--warm-up <epochs>', 'epochs in which the learning rate rises to its peak', whole, 1)
    .option('--weight-decay <number>', 'of the weights', number, 1e-4)
    .option('--patience <epochs>', 'stop after this many epochs without a better validation', positive, 15)
    .option(
      '--init <bundle>',
      'start from the weights of another RetinaNet, or from a classifier for the ResNet: same depth and width',
    )
    .option('--half', 'store the weights in half precision')
    .addHelpText('after', EXAMPLES)
    .action(async (options: Options) => {
      const { makeDetector } = await import('../../training/detector-bundle.js');
      const chain = [
        { use: 'decode', with: {} },
        { use: 'resize', with: { width: options.size, height: options.size } },
      ];
      await run({ ...options, boxed: true }, chain, (recipe, engine, stop, report) =>
        makeDetector(
          recipe,
          engine,
          {
            depth: options.depth as 18 | 34 | 50,
            width: options.width,
            channels: options.channels ?? 4 * options.width,
            headLayers: options.headLayers,
            anchorSize: options.anchorSize ?? Math.min(32, Math.round(options.size / 8)),
            boxLoss: options.boxLoss,
            epochs: options.epochs,
            batchSize: options.batch,
            learningRate: options.lr,
            schedule: options.schedule,
            weightDecay: options.weightDecay,
            warmupEpochs: options.warmUp,
            patience: options.patience,
            seed: options.seed,
            augmentation: augmentationOf(options.augment, DETECTION_AUGMENTATION),
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
                `epoch ${row.epoch}/${options.epochs}  loss ${row.loss.toFixed(4)} (classes ${row.classLoss.toFixed(4)}, ` +
                  `boxes ${row.boxLoss.toFixed(4)})  val mAP@0.5 ${row.valMap50.toFixed(4)}${best ? ' *' : '  '}  ` +
                  `lr ${row.learningRate.toPrecision(2)}  idle ${(100 * row.idle).toFixed(0)} %  ${row.seconds.toFixed(0)} s`,
              );
            },
          },
        ),
      );
    });
}
