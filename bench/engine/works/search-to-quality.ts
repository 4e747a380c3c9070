import { resolve } from 'node:path';
import {
  Engine,
  readInitializers,
  scalar,
  type EngineSession,
  type HostTensor,
  type HostTensors,
} from '../../../src/engine/index.js';
import { readBundle, readBundleFile } from '../../../src/models/bundle.js';
import { exportAnogan, filled, normalNoise, seededRandom } from '../../../src/models/index.js';
import { timed, type Contender, type Setting, type Work } from '../contender.js';
import { filmsFor } from '../films.js';
import { fitLinearEncoder, turnLatentSpace } from '../linear-encoder.js';
import { target } from '../target.js';

const BUNDLE = resolve(import.meta.dirname, '../../../models/chest-anogan');
const FILMS = 16;
const LAMBDA = 0.1;
/** The search that is measured against: the product's learning rate, every film to the end. */
const PLAIN = { steps: 500, learningRate: 0.05 };
/** The search that is to get as far in less time. */
const FAST = { stepsALook: 5, learningRate: 0.15 };
/** Of the plain search's score, at which a film leaves. */
const CLOSE_ENOUGH = 1.01;
const GOAL_MS = 500;

const PLAIN_NAME = `plain search, ${PLAIN.steps} steps`;

interface Networks {
  readonly features: EngineSession;
  readonly search: EngineSession;
}

/** Films under search: `z`, `m` and `v` are [N,zDim]. */
interface Searched {
  readonly x: HostTensor;
  readonly fx: HostTensor;
  readonly z: HostTensor;
  readonly m: HostTensor;
  readonly v: HostTensor;
  readonly t: HostTensor;
}

/**
 * Time a film until its score is within 1 % of what 500 plain steps give. Ours: a start by linear regression, Adam along
 * the principal axes of the generator's first layer, and films that are there leave the batch.
 */
export function searchToQuality(): Work {
  return {
    name: `search to quality: a film, shipped DCGAN, batch ${FILMS}`,
    stepsARun: FILMS,
    goals: { [PLAIN_NAME]: 0.15, 'the goal': 1 },
    async ours(setting) {
      const { bundle, films, engine, plain } = await open(setting);
      const zDim = Number(bundle.architecture['zDim']);
      const { scores } = await searchPlainly(plain, films, zDim);
      const parameters = turnLatentSpace(readInitializers(await readBundleFile(BUNDLE, bundle, 'search')));
      const files = exportAnogan(withLogits(parameters), {
        width: Number(bundle.architecture['width']),
        zDim,
      });
      const generator = await engine.load(files.generator, setting);
      const generate = async (z: HostTensor): Promise<HostTensor> =>
        tensor(await generator.run({ z }), 'images');
      const encode = await fitLinearEncoder(generate, zDim, bundle.input.width);
      const fast = { features: plain.features, search: await engine.load(files.search, setting) };
      const { steps } = await searchFast(fast, films, zDim, encode, scores);
      return {
        name: 'ours',
        mode: 'regression start, turned latent space, films leave',
        details: { 'steps of the films': steps.sort((a, b) => a - b).join(' ') },
        run: (times) => timed(times, () => searchFast(fast, films, zDim, encode, scores)),
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
        run: (times) => timed(times, () => searchPlainly(plain, films, zDim)),
        dispose: () => engine.dispose(),
      };
      return [peer, target(GOAL_MS * FILMS)];
    },
  };
}

async function open(setting: Setting): Promise<{
  bundle: Awaited<ReturnType<typeof readBundle>>;
  films: HostTensor;
  engine: Engine;
  plain: Networks;
}> {
  const bundle = await readBundle(BUNDLE);
  const engine = new Engine();
  const load = async (role: string): Promise<EngineSession> =>
    engine.load(await readBundleFile(BUNDLE, bundle, role), setting);
  return {
    bundle,
    films: await filmsFor(bundle.input, FILMS, setting.data),
    engine,
    plain: { features: await load('features'), search: await load('search') },
  };
}

async function searchPlainly(
  { features, search }: Networks,
  x: HostTensor,
  zDim: number,
): Promise<{ scores: number[] }> {
  const fx = tensor(await features.run({ images: x }), 'features');
  const z = normalNoise([FILMS, zDim], seededRandom(3));
  const { results } = await advance(search, start(x, fx, z), PLAIN.steps, PLAIN.learningRate);
  return { scores: scoresOf(results) };
}

/** Every film until its score is close enough; the steps that each took. */
async function searchFast(
  { features, search }: Networks,
  x: HostTensor,
  zDim: number,
  encode: (film: Float32Array) => Float32Array,
  wanted: readonly number[],
): Promise<{ steps: number[] }> {
  const fx = tensor(await features.run({ images: x }), 'features');
  const pixels = x.data as Float32Array;
  const size = pixels.length / FILMS;
  const z = new Float32Array(FILMS * zDim);
  for (let film = 0; film < FILMS; film++)
    z.set(encode(pixels.subarray(film * size, (film + 1) * size)), film * zDim);
  let films = Array.from({ length: FILMS }, (_, film) => film);
  let searched = start(x, fx, { data: z, dims: [FILMS, zDim] });
  const steps = new Array<number>(FILMS).fill(PLAIN.steps);
  for (let done = 0; films.length > 0 && done < PLAIN.steps;) {
    const { next, results } = await advance(search, searched, FAST.stepsALook, FAST.learningRate);
    done += FAST.stepsALook;
    const scores = scoresOf(results);
    const staying = films.flatMap((film, row) => {
      if ((scores[row] ?? 0) > CLOSE_ENOUGH * (wanted[film] ?? 0)) return [row];
      steps[film] = done;
      return [];
    });
    searched = staying.length === films.length ? next : keep(next, staying);
    films = staying.map((row) => films[row] ?? 0);
  }
  return { steps };
}

function start(x: HostTensor, fx: HostTensor, z: HostTensor): Searched {
  return { x, fx, z, m: filled(z.dims, 0), v: filled(z.dims, 0), t: scalar(0) };
}

async function advance(
  search: EngineSession,
  searched: Searched,
  steps: number,
  learningRate: number,
): Promise<{ next: Searched; results: HostTensors }> {
  const results = await search.run({
    ...searched,
    steps: { data: BigInt64Array.of(BigInt(steps)), dims: [] },
    lr: scalar(learningRate),
    lambda: scalar(LAMBDA),
  });
  const [z, m, v, t] = ['z', 'm', 'v', 't'].map((name) => tensor(results, `next/${name}`)) as [
    HostTensor,
    HostTensor,
    HostTensor,
    HostTensor,
  ];
  return { next: { ...searched, z, m, v, t }, results };
}

function scoresOf(results: HostTensors): number[] {
  const discrimination = tensor(results, 'discriminationMean').data as Float32Array;
  return Array.from(
    tensor(results, 'residualMean').data as Float32Array,
    (residual, film) => (1 - LAMBDA) * residual + LAMBDA * (discrimination[film] ?? 0),
  );
}

/** The given rows of every tensor that has a row a film. */
function keep(searched: Searched, rows: readonly number[]): Searched {
  const pick = ({ data, dims: [n = 1, ...inner] }: HostTensor): HostTensor => {
    const size = data.length / n;
    const kept = new Float32Array(rows.length * size);
    rows.forEach((row, at) =>
      kept.set((data as Float32Array).subarray(row * size, (row + 1) * size), at * size),
    );
    return { data: kept, dims: [rows.length, ...inner] };
  };
  const { x, fx, z, m, v, t } = searched;
  return { x: pick(x), fx: pick(fx), z: pick(z), m: pick(m), v: pick(v), t };
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

function tensor(tensors: HostTensors, name: string): HostTensor {
  const found = tensors[name];
  if (found === undefined) throw new Error(`expected a tensor "${name}"`);
  return found;
}
