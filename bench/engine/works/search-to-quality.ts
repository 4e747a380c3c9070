import { resolve } from 'node:path';
import {
  Engine,
  readInitializers,
  type EngineSession,
  type HostTensor,
  type HostTensors,
} from '../../../src/engine/index.js';
import {
  onnxNetworks,
  scoreAnomalies,
  type SearchNetworks,
  type SearchSettings,
} from '../../../src/models/anomaly-scorer.js';
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
/** Searches that may get as far in fewer steps. */
const FAST: readonly Omit<SearchSettings, 'steps'>[] = (['search', 'refine'] as const).flatMap((method) =>
  [0.1, 0.2].map((learningRate) => ({ ...SHARED, method, learningRate })),
);
/** How far above the plain search's the mean score may lie. */
const CLOSE = 1.01;
const GOAL_MS = 500;

const PLAIN_NAME = `plain search, ${PLAIN.steps} steps`;

/**
 * Time a film until the mean score is within 1 % of what 500 plain steps give. Ours: Adam with larger steps along the
 * principal axes of the generator's first layer, from the prior or from where an encoder says, whichever needs fewer.
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
      const candidates = await Promise.all(
        FAST.map((settings) => until(CLOSE, networks, films, zDim, settings, wanted)),
      );
      const [fastest] = candidates.sort((a, b) => a.steps - b.steps);
      if (fastest === undefined) throw new Error('there is no search to measure');
      const { method, learningRate, steps, ratios } = fastest;
      return {
        name: 'ours',
        mode: `${method === 'refine' ? `start by ${start}` : 'start from the prior'}, learning rate ${learningRate}, ${steps} steps`,
        details: { 'scores ÷ those of the plain search': ratios.map((ratio) => ratio.toFixed(3)).join(' ') },
        run: (times) => timed(times, () => scoreAnomalies(networks, films, zDim, fastest)),
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

interface Fast extends SearchSettings {
  /** Of the films' scores to the wanted ones, ascending. */
  readonly ratios: readonly number[];
}

/** The search with as few steps as bring the mean of its scores within `close` times the wanted ones. */
async function until(
  close: number,
  networks: SearchNetworks,
  films: HostTensor,
  zDim: number,
  settings: Omit<SearchSettings, 'steps'>,
  wanted: readonly { readonly anomalyScore: number }[],
): Promise<Fast> {
  for (let steps = 50; ; steps += 50) {
    const found = await scoreAnomalies(networks, films, zDim, { ...settings, steps });
    const ratios = found
      .map(({ anomalyScore }, film) => anomalyScore / (wanted[film]?.anomalyScore ?? NaN))
      .sort((a, b) => a - b);
    const mean = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
    if (mean <= close || steps >= SHARED.steps) return { ...settings, steps, ratios };
  }
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
