import { isDeepStrictEqual } from 'node:util';
import { RxrayError } from '../core/errors.js';
import { readInitializers, type Engine, type HostTensors } from '../engine/index.js';
import { readBundle, readBundleFile, type Bundle } from '../models/bundle.js';
import { initResnet, type ResnetExport, type ResnetOptions } from '../models/index.js';
import { classifierFilms } from './classifier-bundle.js';
import { finishClassifier } from './finish-classifier.js';
import { resolveChain } from './preprocess.js';
import type { Made, Recipe } from './recipe.js';
import { shiftedValidation } from './select-shifts.js';

export interface EnsembleOptions extends ResnetExport {
  /** One network with the mean of the weights, instead of the mean of the logits (Wortsman et al. 2022). */
  readonly averageWeights?: true;
  /** Fits the calibration on shifted validation films as well. */
  readonly shifts?: true;
}

/**
 * Combines classifiers (of different seeds, for example) into one file that averages their logits or their weights, and
 * evaluates and calibrates it. They may differ only in their weights.
 */
export async function makeEnsemble(
  recipe: Recipe,
  engine: Engine,
  dirs: readonly string[],
  options: EnsembleOptions,
): Promise<Made> {
  const { averageWeights = false, shifts = false, ...storage } = options;
  const bundles = await Promise.all(dirs.map((dir) => readBundle(dir)));
  const [first] = bundles;
  if (first === undefined) throw new RxrayError('TRAINING_DATA', 'expected at least one classifier');
  // With defaults filled in: one bundle may be of a version that had fewer options.
  const chains = await Promise.all(
    bundles.map(({ preprocessing }) => resolveChain(preprocessing, recipe.registry, recipe.baseDir)),
  );
  bundles.forEach((bundle, i) => {
    const differs =
      difference(first, bundle) ?? (isDeepStrictEqual(chains[0], chains[i]) ? undefined : 'preprocessing');
    if (differs === undefined) return;
    throw new RxrayError('TRAINING_DATA', `${dirs[i] ?? ''} differs from ${dirs[0] ?? ''} in its ${differs}`);
  });
  const { name: _, members: _members, mirror: _mirror, ...architecture } = first.architecture;
  const resnet = architecture as unknown as ResnetOptions;
  const names = Object.keys(initResnet(resnet, 0));
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
  const { films, labelled } = await classifierFilms(recipe, ['val']);
  return finishClassifier(recipe, engine, {
    architecture: resnet,
    members: averageWeights ? [meanOf(members)] : members,
    storage,
    // As it was recorded: an option of a stage that came later is no part of how they were trained.
    chain: first.preprocessing,
    films,
    val: labelled('val'),
    ...(shifts && { shifted: await shiftedValidation(recipe) }),
    training:
      bundles.length === 1
        ? { ...first.training, ...options, calibratedBy: recipe.command }
        : { command: recipe.command, ...options, members: bundles.map(({ training }) => training) },
  });
}

/** The mean of each tensor. */
function meanOf(members: readonly HostTensors[]): HostTensors {
  const [first = {}] = members;
  return Object.fromEntries(
    Object.entries(first).map(([name, { dims, data }]) => [
      name,
      {
        dims,
        data: Float32Array.from({ length: data.length }, (_, i) => {
          return members.reduce((sum, member) => sum + Number(member[name]?.data[i]), 0) / members.length;
        }),
      },
    ]),
  );
}

/** The differences between two classifiers, in words. */
function difference(a: Bundle, b: Bundle): string | undefined {
  if (a.kind !== 'classifier' || b.kind !== 'classifier') return 'kind: both must be classifiers';
  if (a.architecture.name !== 'resnet' || (a.architecture.members ?? 1) !== 1)
    return 'network: a single resnet';
  if (!isDeepStrictEqual(a.architecture, b.architecture)) return 'architecture';
  if (!isDeepStrictEqual(a.labels, b.labels)) return 'labels';
  return a.data.fingerprint === b.data.fingerprint ? undefined : 'data';
}
