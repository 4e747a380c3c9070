import { createHash } from 'node:crypto';
import { scalar } from '../engine/host-tensor.js';
import type { EngineSession, HostTensor, HostTensors } from '../engine/index.js';
import { boxMuller } from './random.js';

/**
 * How the latent vector of a film is found: by search from random starts (AnoGAN, Schlegl et al. 2017), by an
 * encoder in one forward pass (f-AnoGAN, Schlegl et al. 2019), or by a search from where the encoder says.
 */
export const ANOGAN_METHODS = ['search', 'encoder', 'refine'] as const;
export type AnoganMethod = (typeof ANOGAN_METHODS)[number];

/** How the generator's latent space is searched for a film. */
export interface SearchSettings {
  /** `search` unless given. The encoder takes no steps, and what starts from it has one start. */
  readonly method?: AnoganMethod;
  /** Γ: gradient steps per restart. */
  readonly steps: number;
  /** λ: the share of the discrimination loss in the score. */
  readonly lambda: number;
  /** Adam's. */
  readonly learningRate: number;
  /** Independent starts; the best one counts. */
  readonly restarts: number;
  /**
   * A search ends before its last step when ten steps have lowered its score by less than this share. 0 unless given: all
   * steps are taken.
   */
  readonly tolerance?: number;
}

/** What the search found for one film. Losses are means over pixels or features unless said otherwise. */
export interface AnomalyScore {
  /** A = (1 − λ) · R + λ · D. */
  readonly anomalyScore: number;
  /** The same of the sums: the paper's form. */
  readonly rawSum: number;
  /** Σ|x − G(z)| over all pixels. */
  readonly residualSum: number;
  /** Σ|f(x) − f(G(z))| over all features. */
  readonly discriminationSum: number;
  /** R: mean absolute difference between film and reconstruction, both −1…1. */
  readonly residualLoss: number;
  /** D: mean absolute difference of the discriminator's features. */
  readonly discriminationLoss: number;
  /** Standard deviation of the score over the restarts; null for one. */
  readonly spread: number | null;
  /** H × W, −1…1. */
  readonly reconstruction: Float32Array;
}

/** The networks of the search: ONNX sessions, or the same functions run by TensorFlow.js. */
export interface SearchNetworks {
  /** images [N,H,W,1] → features. */
  features(images: HostTensor): Promise<HostTensor>;
  /** Feeds and results as in `search.onnx`. */
  search(feeds: HostTensors): Promise<HostTensors>;
  /** images [N,H,W,1] → z [N,zDim]; where there is an encoder. */
  encode?(images: HostTensor): Promise<HostTensor>;
}

/** The networks as the engine runs them. Disposing of it disposes of the sessions. */
export function onnxNetworks(
  features: EngineSession,
  search: EngineSession,
  encoder?: EngineSession,
): SearchNetworks & { dispose(): Promise<void> } {
  return {
    features: async (images) => tensor(await features.run({ images }), 'features'),
    search: (feeds) => search.run(feeds),
    ...(encoder && { encode: async (images) => tensor(await encoder.run({ images }), 'z') }),
    async dispose() {
      await features.dispose();
      await search.dispose();
      await encoder?.dispose();
    },
  };
}

/** The engine works on other models between two slices of a search, and searches that have settled end there. */
const STEPS_A_SLICE = 10;
/** What a search moves, a row each. */
const MOVING = ['z', 'm', 'v'] as const;
/** Searches that run side by side: more gain nothing on a CPU and cost memory. */
const SEARCHES_AT_ONCE = 64;

/**
 * Anomaly scores by latent search (Schlegl et al. 2017, arXiv:1703.05921): for each film, the latent
 * vector whose generated image comes closest to it; the networks stay as they are. The start is drawn from the
 * training prior N(0, 1), seeded by the film's own pixels, or is the encoder's: so a score depends on nothing
 * but the film, not on its neighbours in the batch nor on what came before.
 */
export async function scoreAnomalies(
  networks: SearchNetworks,
  images: HostTensor,
  zDim: number,
  settings: SearchSettings,
): Promise<AnomalyScore[]> {
  const [films = 0, height = 0, width = 0] = images.dims;
  const pixels = images.data as Float32Array;
  const size = height * width;
  const { method = 'search' } = settings;
  const restarts = method === 'search' ? settings.restarts : 1;
  const steps = method === 'encoder' ? 0 : settings.steps;
  const filmsAtOnce = Math.max(1, Math.floor(SEARCHES_AT_ONCE / restarts));
  const scores: AnomalyScore[] = [];
  for (let from = 0; from < films; from += filmsAtOnce) {
    const n = Math.min(filmsAtOnce, films - from);
    const x = new Float32Array(n * restarts * size);
    const starts = new Float32Array(n * restarts * zDim);
    for (let i = 0; i < n; i++) {
      const film = pixels.subarray((from + i) * size, (from + i + 1) * size);
      for (let r = 0; r < restarts; r++) x.set(film, (i * restarts + r) * size);
      if (method === 'search') starts.set(startOf(film, restarts * zDim), i * restarts * zDim);
    }
    const batch = { data: x, dims: [n * restarts, height, width, 1] };
    if (method !== 'search') starts.set((await encode(networks, batch)).data as Float32Array);
    const found = await search(networks, batch, starts, zDim, { ...settings, steps });
    for (let i = 0; i < n; i++) {
      scores.push(best(found.slice(i * restarts, (i + 1) * restarts), settings.lambda));
    }
  }
  return scores;
}

async function encode(networks: SearchNetworks, images: HostTensor): Promise<HostTensor> {
  if (networks.encode === undefined) throw new Error('there is no encoder');
  return networks.encode(images);
}

/** Where one search has come to. Losses as in {@link AnomalyScore}; sums over pixels and over features. */
interface Found {
  readonly residualSum: number;
  readonly discriminationSum: number;
  readonly residualLoss: number;
  readonly discriminationLoss: number;
  readonly score: number;
  readonly reconstruction: Float32Array;
}

/** One search for every row of `x` and `z`. Rows that have settled leave, the others go on without them. */
async function search(
  networks: SearchNetworks,
  x: HostTensor,
  z: Float32Array,
  zDim: number,
  { steps, lambda, learningRate, tolerance = 0 }: SearchSettings,
): Promise<Found[]> {
  const dims = [x.dims[0] ?? 0, zDim];
  const zeros: HostTensor = { data: new Float32Array(z.length), dims };
  let rows: HostTensors = { x, fx: await networks.features(x), z: { data: z, dims }, m: zeros, v: zeros };
  let t = scalar(0);
  const found: Found[] = [];
  /** Which search each row is. */
  let searches = Array.from({ length: dims[0] ?? 0 }, (_, i) => i);
  let done = 0;
  // Also without steps: the losses at the start are wanted then.
  do {
    const result = await networks.search({
      ...rows,
      t,
      steps: { data: BigInt64Array.of(BigInt(Math.min(STEPS_A_SLICE, steps - done))), dims: [] },
      lr: scalar(learningRate),
      lambda: scalar(lambda),
    });
    const staying = searches.flatMap((search, row) => {
      const before = found[search]?.score ?? Infinity;
      const now = foundAt(result, row, lambda);
      found[search] = now;
      return tolerance > 0 && now.score > (1 - tolerance) * before ? [] : [row];
    });
    rows = { ...rows, ...Object.fromEntries(MOVING.map((name) => [name, tensor(result, `next/${name}`)])) };
    t = tensor(result, 'next/t');
    done += STEPS_A_SLICE;
    if (staying.length === searches.length) continue;
    rows = Object.fromEntries(Object.entries(rows).map(([name, all]) => [name, pickRows(all, staying)]));
    searches = staying.map((row) => searches[row] ?? 0);
  } while (done < steps && searches.length > 0);
  return found;
}

function foundAt(result: HostTensors, row: number, lambda: number): Found {
  const at = (name: string): number => Number(tensor(result, name).data[row]);
  const residualLoss = at('residualMean');
  const discriminationLoss = at('discriminationMean');
  return {
    residualSum: at('residual'),
    discriminationSum: at('discrimination'),
    residualLoss,
    discriminationLoss,
    score: mix(residualLoss, discriminationLoss, lambda),
    reconstruction: pickRows(tensor(result, 'reconstruction'), [row]).data as Float32Array,
  };
}

function pickRows({ data, dims: [n = 1, ...inner] }: HostTensor, rows: readonly number[]): HostTensor {
  const size = data.length / n;
  const picked = new Float32Array(rows.length * size);
  rows.forEach((row, at) => {
    picked.set((data as Float32Array).subarray(row * size, (row + 1) * size), at * size);
  });
  return { data: picked, dims: [rows.length, ...inner] };
}

function tensor(tensors: HostTensors, name: string): HostTensor {
  const found = tensors[name];
  if (found === undefined) throw new Error(`the network returns no "${name}"`);
  return found;
}

/** The best of the searches for one film. */
function best(runs: readonly Found[], lambda: number): AnomalyScore {
  const [first, ...others] = runs;
  if (first === undefined) throw new RangeError('a search needs at least one restart');
  const winner = others.reduce((a, b) => (b.score < a.score ? b : a), first);
  return {
    anomalyScore: winner.score,
    rawSum: mix(winner.residualSum, winner.discriminationSum, lambda),
    residualSum: winner.residualSum,
    discriminationSum: winner.discriminationSum,
    residualLoss: winner.residualLoss,
    discriminationLoss: winner.discriminationLoss,
    spread: runs.length === 1 ? null : deviation(runs.map((run) => run.score)),
    reconstruction: winner.reconstruction,
  };
}

function mix(residual: number, discrimination: number, lambda: number): number {
  return (1 - lambda) * residual + lambda * discrimination;
}

function deviation(values: readonly number[]): number {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

/** Standard normal numbers out of SHA-256 of the pixels in counter mode. */
function startOf(pixels: Float32Array, count: number): Float32Array {
  const key = createHash('sha256')
    .update(new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength))
    .digest();
  const z = new Float32Array(count);
  for (let i = 0; i < count; i += 8) {
    const block = createHash('sha256').update(key).update(String(i)).digest();
    for (let pair = 0; pair < 4; pair++) {
      const u = (block.readUInt32LE(pair * 8) + 1) / 2 ** 32;
      const numbers = boxMuller(u, block.readUInt32LE(pair * 8 + 4) / 2 ** 32);
      // Beyond the end these fall away: a typed array ignores them.
      [z[i + pair * 2], z[i + pair * 2 + 1]] = numbers;
    }
  }
  return z;
}
