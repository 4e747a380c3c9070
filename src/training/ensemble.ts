import { isDeepStrictEqual } from 'node:util';
import { RxrayError } from '../core/errors.js';
import { readInitializers, type Engine, type HostTensors } from '../engine/index.js';
import { readBundle, readBundleFile, type Bundle } from '../models/bundle.js';
import { initResnet, type ResnetExport, type ResnetOptions } from '../models/index.js';
import { classifierFilms } from './classifier-bundle.js';
import { finishClassifier } from './finish-classifier.js';
import type { Made, Recipe } from './recipe.js';

/**
 * Combines classifiers (of different seeds, for example) into one file that averages their logits, and evaluates and
 * calibrates it. They may differ only in their weights.
 */
export async function makeEnsemble(
  recipe: Recipe,
  engine: Engine,
  dirs: readonly string[],
  storage: ResnetExport,
): Promise<Made> {
  const bundles = await Promise.all(dirs.map((dir) => readBundle(dir)));
  const [first] = bundles;
  if (first === undefined) throw new RxrayError('TRAINING_DATA', 'expected at least one classifier');
  bundles.forEach((bundle, i) => {
    const differs = difference(first, bundle);
    if (differs === undefined) return;
    throw new RxrayError('TRAINING_DATA', `${dirs[i] ?? ''} differs from ${dirs[0] ?? ''} in its ${differs}`);
  });
  const { name: _, members: _members, mirror: _mirror, ...architecture } = first.architecture;
  const options = architecture as unknown as ResnetOptions;
  const names = Object.keys(initResnet(options, 0));
  const members = await Promise.all(
    bundles.map(async (bundle, i): Promise<HostTensors> => {
      const constants = readInitializers(await readBundleFile(dirs[i] ?? '', bundle, 'model'));
      return Object.fromEntries(
        names.map((name) => {
          const tensor = constants[name];
          if (tensor === undefined)
            throw new RxrayError('TRAINING_DATA', `${dirs[i] ?? ''} has no "${name}"`);
          return [name, tensor];
        }),
      );
    }),
  );
  const { films, labelled, chain } = await classifierFilms(recipe, ['val']);
  return finishClassifier(recipe, engine, {
    architecture: options,
    members,
    storage,
    chain,
    films,
    val: labelled('val'),
    training: { command: recipe.command, ...storage, members: bundles.map(({ training }) => training) },
  });
}

/** The differences between two classifiers, in words. */
function difference(a: Bundle, b: Bundle): string | undefined {
  if (a.kind !== 'classifier' || b.kind !== 'classifier') return 'kind: both must be classifiers';
  if (a.architecture.name !== 'resnet' || (a.architecture.members ?? 1) !== 1)
    return 'network: a single resnet';
  if (!isDeepStrictEqual(a.architecture, b.architecture)) return 'architecture';
  if (!isDeepStrictEqual(a.labels, b.labels)) return 'labels';
  if (!isDeepStrictEqual(a.preprocessing, b.preprocessing)) return 'preprocessing';
  return a.data.fingerprint === b.data.fingerprint ? undefined : 'data';
}
