import { Option, type Command } from 'commander';
import { CHEST_AUGMENTATION } from '../../training/augment.js';
import { originalPreset } from '../../training/original.js';
import { number, share } from '../numbers.js';
import {
  augmentationOf,
  bundleOptionsOf,
  common,
  courseOf,
  oneOf,
  supervised,
  type SupervisedOptions,
} from './options.js';
import type { ClassifierEpoch } from '../../training/classifier.js';
import { run, usualChain } from './run.js';

interface Options extends SupervisedOptions {
  readonly preset?: 'original';
  readonly depth: number;
  readonly head: 'plain' | 'dense128' | 'flatten128';
  readonly dropout: number;
  readonly freezeBase?: true;
  readonly optimizer: 'sgd' | 'adam';
  readonly nesterov?: true;
  readonly labelSmoothing: number;
  readonly contrastive: number;
  readonly mixUp: number;
  readonly classWeights: boolean;
  readonly select: 'accuracy' | 'shifts' | 'last';
  readonly varyClahe?: true;
  readonly standardize?: true;
  readonly mirror?: true;
}

const EXAMPLES = `
Examples:
  $ rxray train resnet --data films --out models/mine
  $ rxray train resnet --data films/manifest.csv --out models/mine --width 48 --epochs 40 --nesterov --mix-up 0.2
  $ rxray train resnet --data films.csv --directory films --out models/mine --augment rotate=20,cutOut=0
  $ rxray train resnet --data films --out models/original --preset original

Exit codes: 0 fine, 1 stopped (continue with --resume), 2 wrong usage or data, 3 fatal.`;

/** `rxray train resnet`. */
export function trainResnet(train: Command): void {
  const command = supervised(
    common(train.command('resnet'), { width: 32, epochs: 20, batch: 32, lr: 0.05 }),
    { weightDecay: 5e-4, patience: 10 },
    "start from a classifier's weights: same depth, width and head; other classes get a new last layer",
  )
    .description('Trains a ResNet classifier.')
    .addOption(
      new Option(
        '--preset <name>',
        'original: the settings of the student project that rxray grew from; other options override them',
      ).choices(['original']),
    )
    .option('--depth <18|34|50>', 'layers of the network', oneOf(18, 34, 50), 18)
    .addOption(
      new Option(
        '--head <name>',
        'plain; dense128: a dense layer and dropout; flatten128: pooled 2×2 before it',
      )
        .choices(['plain', 'dense128', 'flatten128'])
        .default('plain'),
    )
    .option('--dropout <0..1>', 'of the dense layer', share, 0.3)
    .option('--freeze-base', 'train only the head, on random features')
    .addOption(
      new Option('--optimizer <name>', 'sgd has momentum 0.9').choices(['sgd', 'adam']).default('sgd'),
    )
    .option('--nesterov', 'Nesterov momentum (sgd)')
    .option('--label-smoothing <0..1>', 'probability that is spread over all labels', share, 0.1)
    .option(
      '--contrastive <weight>',
      'weight of the supervised contrastive loss, by which films of one class get similar features; 0: off',
      number,
      0,
    )
    .option('--mix-up <alpha>', 'mix pairs of films by a share from Beta(alpha, alpha); 0: off', share, 0)
    .option('--no-class-weights', 'weight all films equally instead of by class frequency')
    .addOption(
      new Option(
        '--select <name>',
        'what selects the epoch: the balanced accuracy, or also the worst figures on shifted films, which then also count for temperature and threshold; last: no selection',
      )
        .choices(['accuracy', 'shifts', 'last'])
        .default('accuracy'),
    )
    .option('--vary-clahe', 'show each film also without CLAHE and with half and twice its clip limit')
    .option('--standardize', "subtract each film's own mean and divide by its own deviation")
    .option('--mirror', 'average the outputs for a film and its mirror image: twice the work')
    .addHelpText('after', EXAMPLES);
  command.action(async () => {
    if (command.opts<Options>().preset === 'original') {
      const isGiven = (name: string): boolean => command.getOptionValueSource(name) === 'cli';
      for (const [name, value] of Object.entries(originalPreset)) {
        if (!isGiven(name) && !(name === 'size' && isGiven('preprocess')))
          command.setOptionValue(name, value);
      }
    }
    const options = command.opts<Options>();
    const { makeClassifier } = await import('../../training/classifier-bundle.js');
    await run(options, usualChain(options.size), (recipe, engine, stop, report) =>
      makeClassifier(
        recipe,
        engine,
        {
          depth: options.depth as 18 | 34 | 50,
          width: options.width,
          head: options.head,
          standardize: options.standardize === true,
          dropout: options.dropout,
          frozenBase: options.freezeBase === true,
          optimizer: options.optimizer,
          nesterov: options.nesterov === true,
          labelSmoothing: options.labelSmoothing,
          ...(options.contrastive > 0 && { contrastive: options.contrastive }),
          mixUp: options.mixUp,
          classWeights: options.classWeights,
          ...courseOf(options),
          ...(options.select !== 'accuracy' && { select: options.select }),
          ...(options.varyClahe === true && { varyClahe: true as const }),
          augmentation: augmentationOf(options.augment, CHEST_AUGMENTATION),
        },
        { mirror: options.mirror === true, ...bundleOptionsOf(options) },
        {
          ...stop,
          onStep: report.step,
          onEpoch: (row, best) => {
            report.epoch(
              { ...row, best },
              `epoch ${row.epoch}/${options.epochs}  loss ${row.loss.toFixed(4)}  accuracy ${row.accuracy.toFixed(3)}  ` +
                `val loss ${row.valLoss.toFixed(4)}  val balanced accuracy ${row.valBalancedAccuracy.toFixed(4)}` +
                `${row.worst === undefined ? '' : worstOf(row.worst)}${best ? ' *' : '  '}  lr ${row.learningRate.toPrecision(2)}  idle ${(100 * row.idle).toFixed(0)} %  ${row.seconds.toFixed(0)} s`,
            );
          },
        },
      ),
    );
  });
}

function worstOf({ auroc, specificity, ece }: NonNullable<ClassifierEpoch['worst']>): string {
  const figure = (found: typeof auroc): string => found?.value.toFixed(3) ?? '–';
  return `  worst of the shifts: AUROC ${figure(auroc)}  specificity ${figure(specificity)}  ECE ${figure(ece)}`;
}
