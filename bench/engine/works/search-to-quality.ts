import { resolve } from 'node:path';
import {
  Engine,
  readInitializers,
  type EngineSession,
  type HostTensor,
  type HostTensors,
} from '../../../src/engine/index.js';
import { onnxNetworks, scoreAnomalies, type SearchNetworks } from '../../../src/models/anomaly-scorer.js';
import { readBundle, readBundleFile, type Bundle } from '../../../src/models/bundle.js';
import { exportAnogan, filled, turnLatentSpace } from '../../../src/models/index.js';
import { timed, type Contender, type Setting, type Work } from '../contender.js';
import { filmsFor } from '../films.js';
import { fitLinearEncoder } from '../linear-encoder.js';
import { target } from '../target.js';

const BUNDLE = resolve(import.meta.dirname, '../../../models/chest-anogan');
const FILMS = 16;
const SHARED = { steps: 500, lambda: 0.1, restarts: 1 } as const;
/** The search that is measured against: every film to the end. */
const PLAIN = { ...SHARED, learningRate: 0.05 };
/** The search that is to get as far in less time. */
const FAST = { ...SHARED, method: 'refine', learningRate: 0.2, tolerance: 0.002 } as const;
const GOAL_MS = 500;

const PLAIN_NAME = `plain search, ${PLAIN.steps} steps`;

/**
 * Time a film until its score is within 1 % of what 500 plain steps give. Ours: a start by an encoder, Adam along the
 * principal axes of the generator's first layer, and films leave where they have settled. How close they came is printed.
 */
export function searchToQuality(): Work {
  return {
    name: `search to quality: a film, shipped DCGAN, batch ${FILMS}`,
    stepsARun: FILMS,
    goals: { [PLAIN_NAME]: 0.15, 'the goal': 1 },
    async ours(setting) {
      const { bundle, films, engine, plain } = await open(setting);
      const zDim = Number(bundle.architecture['zDim']);
      const { networks, start } = await fastNetworks(bundle, engine, setting);
      const wanted = await scoreAnomalies(plain, films, zDim, PLAIN);
      const found = await scoreAnomalies(networks, films, zDim, FAST);
      const ratios = found
        .map(({ anomalyScore }, film) => anomalyScore / (wanted[film]?.anomalyScore ?? NaN))
        .sort((a, b) => a - b);
      return {
        name: 'ours',
        mode: `start by ${start}, principal axes, films leave where they have settled`,
        details: { 'scores ÷ those of the plain search': ratios.map((ratio) => ratio.toFixed(3)).join(' ') },
        run: (times) => timed(times, () => scoreAnomalies(networks, films, zDim, FAST)),
        dispose: () => engine.dispose(),
      };
    },
    async peers(setting) {
      const { bundle, films, engine, plain } = await open(setting);
      const zDim = Number(bundle.architecture['zDim']);
      const peer: Contender = {
        name: PLAIN_NAME,
        mode: `Adam, learning rate ${PLAIN.learningRate}, start from the prior`,
        details: {},
        run: (times) => timed(times, () => scoreAnomalies(plain, films, zDim, PLAIN)),
        dispose: () => engine.dispose(),
      };
      return [peer, target(GOAL_MS * FILMS)];
    },
  };
}

async function open(
  setting: Setting,
): Promise<{ bundle: Bundle; films: HostTensor; engine: Engine; plain: SearchNetworks }> {
  const bundle = await readBundle(BUNDLE);
  const engine = new Engine();
  const load = loader(bundle, engine, setting);
  return {
    bundle,
    films: await filmsFor(bundle.input, FILMS, setting.data),
    engine,
    plain: onnxNetworks(await load('features'), await load('search')),
  };
}

function loader(bundle: Bundle, engine: Engine, setting: Setting): (role: string) => Promise<EngineSession> {
  return async (role) => engine.load(await readBundleFile(BUNDLE, bundle, role), setting);
}

/** The bundle's own networks; of one without an encoder, its networks turned, and a linear encoder in front of them. */
async function fastNetworks(
  bundle: Bundle,
  engine: Engine,
  setting: Setting,
): Promise<{ networks: SearchNetworks; start: string }> {
  const load = loader(bundle, engine, setting);
  const features = await load('features');
  if (bundle.files['encoder'] !== undefined) {
    const networks = onnxNetworks(features, await load('search'), await load('encoder'));
    return { networks, start: "the bundle's encoder" };
  }
  const zDim = Number(bundle.architecture['zDim']);
  const parameters = turnLatentSpace(readInitializers(await readBundleFile(BUNDLE, bundle, 'search')));
  const files = exportAnogan(withLogits(parameters), { width: Number(bundle.architecture['width']), zDim });
  const generator = await engine.load(files.generator, setting);
  const generate = async (z: HostTensor): Promise<HostTensor> => {
    const { images } = await generator.run({ z });
    if (images === undefined) throw new Error('the generator returns no "images"');
    return images;
  };
  const encode = await fitLinearEncoder(generate, zDim, bundle.input.width);
  return {
    networks: { ...onnxNetworks(features, await engine.load(files.search, setting)), encode },
    start: 'linear regression',
  };
}

/** The search does without the discriminator's last layer; its file does not have it. */
function withLogits(parameters: HostTensors): HostTensors {
  const features = (parameters['discriminator/down4/kernel']?.dims[3] ?? 0) * 16;
  return {
    ...parameters,
    'discriminator/logits/kernel': filled([features, 1], 0),
    'discriminator/logits/bias': filled([1], 0),
  };
}
