import { Option, type Command } from 'commander';
import { CHEST_AUGMENTATION } from '../../training/augment.js';
import { augmentationOf, common, number, oneOf, positive, share, type CommonOptions } from './options.js';
import { run, usualChain } from './run.js';

interface Options extends CommonOptions {
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

/** `rxray train resnet`. */
export function trainResnet(train: Command): void {
  common(train.command('resnet'), { width: 32, epochs: 20, batch: 32, lr: 0.05 })
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
    .action(async (options: Options) => {
      const { makeClassifier } = await import('../../training/classifier-bundle.js');
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
            augmentation: augmentationOf(options.augment, CHEST_AUGMENTATION),
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
}
