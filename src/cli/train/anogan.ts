import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { GENTLE_AUGMENTATION } from '../../training/augment.js';
import { number, positive, share, whole } from '../numbers.js';
import { augmentationOf, common, type CommonOptions } from './options.js';
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
        'keep the generator and the discriminator of a bundle; train the encoder and make all scores again',
      ).conflicts(['gan', 'width', 'epochs', 'lr', 'realLabel', 'patience']),
    )
    .option(
      '--real-label <0..1>',
      'label of real films for the discriminator of dcgan: below 1 is label smoothing',
      share,
      0.9,
    )
    .option('--steps <n>', 'gradient steps of the search that scores the reference films', positive, 100)
    .option('--tolerance <0..1>', 'stop a search when ten steps improve it by less than this share', share, 0)
    .option('--lambda <0..1>', 'share of the discrimination loss in the score', share, 0.1)
    .option('--search-rate <number>', 'learning rate of the search', number, 0.05)
    .option('--restarts <n>', 'searches per film; the best one counts', positive, 2)
    .option('--patience <epochs>', 'stop after this many epochs without a better validation', positive, 60)
    .option('--encoder-epochs <n>', 'epochs of the encoder; 0 trains none', whole, 10)
    .option('--kappa <number>', "weight of the feature residual in the encoder's loss", number, 1)
    .option(
      '--encoder-lambda <0..1>',
      'share of the discrimination loss where the encoder is used (default: --lambda)',
      share,
    )
    .option('--half', 'store the weights in half precision')
    .option('--no-principal-axes', 'keep the latent space as trained: the search is slower')
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
