import type { Command } from 'commander';
import { readBundle } from '../../models/bundle.js';
import { dataOptions, type DataOptions } from './options.js';
import { run } from './run.js';

interface Options extends DataOptions {
  readonly mirror?: true;
  readonly half?: true;
  readonly averageWeights?: true;
  readonly shifts?: true;
}

const EXAMPLES = `
Example:
  $ rxray train resnet --data films --out models/a --seed 1
  $ rxray train resnet --data films --out models/b --seed 2
  $ rxray train ensemble models/a models/b --data films --out models/chest-resnet --half

Nothing is trained: the classifiers' outputs are averaged, then evaluated and calibrated on the validation films.
With --average-weights their weights are averaged into one network, which works for classifiers that were trained from
one another's weights (--init); a bundle that is named twice counts twice.`;

/** `rxray train ensemble`. */
export function trainEnsemble(train: Command): void {
  dataOptions(train.command('ensemble').argument('<bundles...>', 'classifiers trained on the same data'))
    .description('Combines trained classifiers into one bundle that averages their outputs.')
    .option('--mirror', 'average the outputs for a film and its mirror image')
    .option('--half', 'store the weights in half precision')
    .option('--average-weights', 'one network with the mean of the weights')
    .option('--shifts', 'fit temperature and threshold on shifted validation films as well')
    .addHelpText('after', EXAMPLES)
    .action(async (bundles: string[], options: Options) => {
      const { makeEnsemble } = await import('../../training/ensemble.js');
      const chain = async () => (await readBundle(bundles[0] ?? '')).preprocessing;
      await run(options, chain, (recipe, engine) =>
        makeEnsemble(recipe, engine, bundles, {
          mirror: options.mirror === true,
          half: options.half === true,
          ...(options.averageWeights === true && { averageWeights: true as const }),
          ...(options.shifts === true && { shifts: true as const }),
        }),
      );
    });
}
