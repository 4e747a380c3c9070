import { basename } from 'node:path';
import { RxrayError, messageOf } from '../core/errors.js';
import { readInitializers, type Engine, type HostTensors } from '../engine/index.js';
import { readBundle, readBundleFile, type Bundle } from '../models/bundle.js';
import { writeBundle } from './write-bundle.js';
import {
  exportPatchcore,
  PATCH_LAYERS,
  patchcoreInputSize,
  type PatchcoreOptions,
  type PatchLayer,
} from '../models/patch-core.js';
import { referenceOf } from '../models/reference.js';
import { modelCard } from './card.js';
import type { TrainingHooks } from './hooks.js';
import { aurocInterval } from './metrics.js';
import { prepareNormals, type NormalFilms } from './normals.js';
import { rememberPatches, scorePatches, type MemorySettings } from './patchcore.js';
import { exportPca, fitPca } from './pca.js';
import { trainPretext, type PretextEpoch, type PretextSettings } from './pretext.js';
import { checkpointDir, common, wrongSize, type Made, type Recipe } from './recipe.js';

export interface PatchcoreSettings {
  readonly layers: readonly PatchLayer[];
  readonly memory: MemorySettings;
  /**
   * The network: trained on normal films alone to find pasted patches; or that of a bundle: the discriminator of
   * an AnoGAN, which has seen normal films only as well, or a classifier, which has seen the abnormal ones with
   * their labels: then the model is supervised, and its card says so.
   */
  readonly network: { readonly pretext: PretextSettings } | { readonly bundle: string };
  /** Stores weights and memory in half precision; the arithmetic stays in single. */
  readonly half?: boolean;
}

interface Network {
  readonly architecture: PatchcoreOptions['network'];
  readonly parameters: HostTensors;
  readonly supervised: boolean;
  readonly history: readonly PretextEpoch[];
}

/** Fills a memory with the patches of normal films, and writes its bundle. */
export async function makePatchcore(
  recipe: Recipe,
  engine: Engine,
  normal: string,
  settings: PatchcoreSettings,
  hooks: Omit<TrainingHooks<PretextEpoch>, 'checkpointDir'>,
): Promise<Made> {
  const { network, memory: remember, layers, half = false } = settings;
  const batchSize = 'pretext' in network ? network.pretext.batchSize : 1;
  const { seed } = remember;
  const { chain, data } = await prepareNormals(recipe, normal, { seed, batchSize }, hooks.signal);
  const { films, normals, reference, val } = data;
  const trained =
    'pretext' in network
      ? await pretext(recipe, engine, data, network.pretext, hooks)
      : await networkOf(network.bundle);
  if (trained === undefined) return undefined;
  const { parameters, architecture, supervised, history } = trained;
  const known: readonly PatchLayer[] = PATCH_LAYERS[architecture.name];
  const wrong = layers.find((layer) => !known.includes(layer));
  if (wrong !== undefined) {
    throw new RxrayError(
      'TRAINING_DATA',
      `the network has no "${wrong}", only ${known.join(', ')} (--layers)`,
    );
  }
  const options: PatchcoreOptions = { network: architecture, layers };
  const side = patchcoreInputSize(options);
  if (films.width !== side || films.height !== side) throw wrongSize(films, `${side}×${side}`);

  const total = normals.length + reference.length + val.index.length;
  const memory = await rememberPatches(engine, parameters, options, films, normals, remember, (done) => {
    recipe.onPhase('score', done, total);
  });
  const score = async (index: Uint32Array, before: number): Promise<number[]> => {
    const scores = await scorePatches(engine, parameters, memory, options, films, index, remember.score, {
      half,
      onProgress: (done) => {
        recipe.onPhase('score', before + done, total);
      },
    });
    return scores.map(({ anomalyScore }) => anomalyScore);
  };
  const normalScores = await score(reference, normals.length);
  const auroc = aurocInterval(await score(val.index, normals.length + reference.length), val.abnormal);
  const [lists = 0, remembered = 0] = memory.memory.dims;
  const bundle: Omit<Bundle, 'files'> = {
    ...common(recipe, chain, films),
    kind: 'patchcore',
    architecture: { name: 'patchcore', ...options, score: remember.score },
    labels: [],
    healthy: [normal],
    reference: { patchcore: referenceOf(normalScores, {}) },
    metrics: {
      films: val.index.length,
      referenceFilms: reference.length,
      ...(auroc !== null && { auroc }),
    },
    training: {
      command: recipe.command,
      ...settings,
      // Without folders of this machine.
      ...('bundle' in network && { network: { bundle: basename(network.bundle) } }),
      normal,
      supervised,
      films: normals.length,
      patches: lists * remembered,
      ...(history.length > 0 && { history }),
    },
  };
  const files = {
    model: exportPatchcore(parameters, memory, options, { half }),
    pca: exportPca(fitPca(films, normals, seed)),
  };
  return writeBundle(recipe.out, bundle, files, modelCard(bundle, recipe.about.limits));
}

async function pretext(
  recipe: Recipe,
  engine: Engine,
  { films, normals }: NormalFilms,
  settings: PretextSettings,
  hooks: Omit<TrainingHooks<PretextEpoch>, 'checkpointDir'>,
): Promise<Network | undefined> {
  if (films.width !== films.height || films.width % 32 !== 0) {
    throw wrongSize(films, 'square ones, of a multiple of 32');
  }
  const outcome = await trainPretext(engine, films, normals, settings, {
    ...hooks,
    checkpointDir: checkpointDir(recipe),
  });
  if (outcome.interrupted) return undefined;
  return { ...outcome, architecture: { name: 'resnet', ...outcome.architecture }, supervised: false };
}

/** The network of a bundle that rxray has trained. */
async function networkOf(dir: string): Promise<Network> {
  try {
    const bundle = await readBundle(dir);
    const { name } = bundle.architecture;
    if (name !== 'resnet' && name !== 'dcgan') {
      throw new Error(`expected a ResNet or an AnoGAN of rxray's, got "${String(name)}"`);
    }
    const supervised = name === 'resnet';
    const file = await readBundleFile(dir, bundle, supervised ? 'model' : 'features');
    return {
      architecture: bundle.architecture as unknown as PatchcoreOptions['network'],
      parameters: readInitializers(file),
      supervised,
      history: [],
    };
  } catch (cause) {
    throw new RxrayError('TRAINING_DATA', `no features from ${dir}: ${messageOf(cause)}`, { cause });
  }
}
