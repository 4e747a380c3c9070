import { Option, type Command } from 'commander';
import { BOX_LOSSES, type BoxLoss } from '../../models/retinanet.js';
import { DETECTION_AUGMENTATION } from '../../training/augment.js';
import { positive } from '../numbers.js';
import {
  augmentationOf,
  bundleOptionsOf,
  common,
  courseOf,
  oneOf,
  supervised,
  type SupervisedOptions,
} from './options.js';
import { plainChain, run } from './run.js';

interface Options extends SupervisedOptions {
  readonly depth: number;
  readonly channels?: number;
  readonly headLayers: number;
  readonly anchorSize?: number;
  readonly boxLoss: BoxLoss;
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
  supervised(
    common(train.command('retinanet'), { width: 16, epochs: 30, batch: 8, lr: 0.001 }),
    { weightDecay: 1e-4, patience: 15 },
    'start from the weights of another RetinaNet, or from a classifier for the ResNet: same depth and width',
  )
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
    .addHelpText('after', EXAMPLES)
    .action(async (options: Options) => {
      const { makeDetector } = await import('../../training/detector-bundle.js');
      await run({ ...options, boxed: true }, plainChain(options.size), (recipe, engine, stop, report) =>
        makeDetector(
          recipe,
          engine,
          {
            depth: options.depth as 18 | 34 | 50,
            width: options.width,
            channels: options.channels ?? 4 * options.width,
            headLayers: options.headLayers,
            ...(options.anchorSize !== undefined && { anchorSize: options.anchorSize }),
            boxLoss: options.boxLoss,
            ...courseOf(options),
            augmentation: augmentationOf(options.augment, DETECTION_AUGMENTATION),
          },
          bundleOptionsOf(options),
          {
            ...stop,
            onStep: report.step,
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
