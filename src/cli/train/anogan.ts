import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { GENTLE_AUGMENTATION } from '../../training/augment.js';
import { augmentationOf, common, number, positive, share, whole, type CommonOptions } from './options.js';
import { run, usualChain } from './run.js';

interface Options extends CommonOptions {
  readonly normal: string;
  readonly gan: 'dcgan' | 'wgan-gp';
  readonly generator?: string;
  readonly half?: true;
  readonly realLabel: number;
  readonly steps: number;
  readonly lambda: number;
  readonly searchRate: number;
  readonly restarts: number;
  readonly tolerance: number;
  readonly patience: number;
  readonly encoderEpochs: number;
  readonly kappa: number;
  readonly refineSteps: number;
  readonly principalAxes: boolean;
  readonly encoderLambda?: number;
}

/** `rxray train anogan`. */
export function trainAnogan(train: Command): void {
  common(train.command('anogan'), { width: 32, epochs: 150, batch: 32, lr: 0.0002 })
    .description('Trains an AnoGAN on the normal films.')
    .option('--normal <class>', 'the class that is normal', 'normal')
    .addOption(
      new Option('--gan <name>', 'wgan-gp is steadier and takes about three times as long')
        .choices(['dcgan', 'wgan-gp'])
        .default('dcgan'),
    )
    .addOption(
      new Option(
        '--generator <bundle>',
        'take the generator and the discriminator of a bundle as they are, and make the encoder and all scores anew',
      ).conflicts(['gan', 'width', 'epochs', 'lr', 'realLabel', 'patience']),
    )
    .option(
      '--real-label <0..1>',
      'what the discriminator of dcgan is told of real films: below 1 is label smoothing',
      share,
      0.9,
    )
    .option('--steps <n>', 'gradient steps of the search that scores the reference films', positive, 100)
    .option('--tolerance <0..1>', 'end a search that ten steps improve by less than this share', share, 0)
    .option('--lambda <0..1>', 'share of the discrimination loss in the score', share, 0.1)
    .option('--search-rate <number>', 'learning rate of the search', number, 0.05)
    .option('--restarts <n>', 'searches per film, of which the best counts', positive, 2)
    .option('--patience <epochs>', 'stop after so many epochs without a better validation', positive, 60)
    .option(
      '--encoder-epochs <n>',
      'times through the films for the encoder, few on purpose; 0 leaves it out',
      whole,
      10,
    )
    .option('--kappa <number>', "weight of the feature residual in the encoder's loss", number, 1)
    .option(
      '--encoder-lambda <0..1>',
      'share of the discrimination loss where the encoder is used (default: --lambda)',
      share,
    )
    .option('--half', 'store the weights in half precision')
    .option('--no-principal-axes', 'leave the latent space as it was trained: a slower search')
    .option('--refine-steps <n>', "gradient steps from the encoder's start, for method: refine", positive, 5)
    .addHelpText(
      'after',
      '\nExamples:\n  $ rxray train anogan --data films/manifest.csv --normal normal --out models/mine' +
        '\n  $ rxray train anogan --data films/manifest.csv --generator models/mine --encoder-epochs 5 --out models/other',
    )
    .action(async (options: Options) => {
      const { makeAnogan } = await import('../../training/anogan-bundle.js');
      await run(options, usualChain(64), (recipe, engine, stop, report) =>
        makeAnogan(
          recipe,
          engine,
          options.normal,
          {
            ...(options.generator !== undefined && { generator: resolve(options.generator) }),
            half: options.half === true,
            width: options.width,
            epochs: options.epochs,
            batchSize: options.batch,
            learningRate: options.lr,
            ...(options.gan === 'wgan-gp' && { gan: options.gan }),
            realLabel: options.realLabel,
            seed: options.seed,
            augmentation: augmentationOf(options.augment, GENTLE_AUGMENTATION),
            search: {
              steps: options.steps,
              lambda: options.lambda,
              learningRate: options.searchRate,
              restarts: options.restarts,
              tolerance: options.tolerance,
            },
            refineSteps: options.refineSteps,
            principalAxes: options.principalAxes,
            encoderLambda: options.encoderLambda ?? options.lambda,
            ...(options.encoderEpochs > 0 && {
              encoder: {
                epochs: options.encoderEpochs,
                batchSize: Math.ceil(options.batch / 2),
                learningRate: 0.001,
                kappa: options.kappa,
                seed: options.seed,
                augmentation: augmentationOf(options.augment, GENTLE_AUGMENTATION),
              },
            }),
            evaluateEvery: 20,
            patience: options.patience,
          },
          {
            ...stop,
            onStep: (done, total, epoch, loss) => {
              report.bar(`epoch ${epoch}`, done, total, `generator loss ${loss.toFixed(4)}`);
            },
            onEpoch: (row, best) => {
              report.epoch(
                { ...row, best },
                `epoch ${row.epoch}/${options.epochs}  D ${row.discriminatorLoss.toFixed(4)}  G ${row.generatorLoss.toFixed(4)}  ` +
                  `real ${row.real.toFixed(2)}  fake ${row.fake.toFixed(2)}` +
                  `${row.auroc === null ? '' : `  AUROC ${row.auroc.toFixed(3)}${best ? ' *' : ''}`}  ${row.seconds.toFixed(1)} s`,
              );
            },
          },
          {
            onStep: (done, total, epoch, loss) => {
              report.bar(`encoder epoch ${epoch}`, done, total, `loss ${loss.toFixed(4)}`);
            },
            onEpoch: (row) => {
              report.epoch(
                { encoder: row },
                `encoder epoch ${row.epoch}/${options.encoderEpochs}  image ${row.imageResidual.toFixed(4)}  ` +
                  `features ${row.featureResidual.toFixed(4)}  ${row.seconds.toFixed(1)} s`,
              );
            },
          },
        ),
      );
    });
}
