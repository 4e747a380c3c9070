import type { Image } from '../core/frame.js';
import { scalar, type Engine, type HostTensor } from '../engine/index.js';
import { resize } from '../imaging/kernels.js';
import { addOpacity } from '../imaging/phantom.js';
import { readBundle, readBundleFile } from '../models/bundle.js';
import { filled, normalNoise, seededRandom } from '../models/random.js';

/** A synthetic film from the generator. */
export interface SampleFilm {
  /** Grey, 8 bit, {@link SAMPLE_SIDE} pixels square. */
  readonly image: Image;
  /** Whether phantom opacities were put into the lungs. */
  readonly opacity: boolean;
}

export const SAMPLE_SIDE = 256;

/** Closer to the mean than in training: fewer failures at the price of less variety (Brock et al. 2019). */
const TRUNCATION = 0.6;

/**
 * Two opacities in each lung, together denser than most pneumonias: the search of the shipped AnoGAN puts all such
 * films of its own generator above the 95th percentile. What is smaller or fainter, or in one lung only, it often misses.
 */
const OPACITIES = [
  { x: 0.3, y: 0.55 },
  { x: 0.27, y: 0.42 },
  { x: 0.7, y: 0.55 },
  { x: 0.68, y: 0.4 },
].map((middle) => ({ ...middle, radius: 0.26, strength: 0.6 }));

/** Films in one run of the network. */
const AT_ONCE = 64;

/**
 * Films out of the generator of an AnoGAN bundle, for trying things out: normal ones, and with `opacities`
 * every third with phantom opacities. The same seed gives the same films. Throws `BundleError`, also
 * for a bundle that has no generator.
 */
export async function sampleFilms(
  engine: Engine,
  bundleDir: string,
  count: number,
  seed: number,
  { opacities }: { opacities: boolean },
): Promise<SampleFilm[]> {
  const bundle = await readBundle(bundleDir);
  const session = await engine.load(await readBundleFile(bundleDir, bundle, 'search'), {
    name: 'generator',
    device: 'cpu',
  });
  const { zDim, width: channels } = bundle.architecture as { zDim: number; width: number };
  const { width, height } = bundle.input;
  const noise = normalNoise([count, zDim], seededRandom(seed), { std: TRUNCATION }).data as Float32Array;
  const pixels = new Float32Array(count * width * height);
  for (let from = 0; from < count; from += AT_ONCE) {
    const z = noise.subarray(from * zDim, (from + AT_ONCE) * zDim);
    const zeros = (...dims: number[]): HostTensor => filled([z.length / zDim, ...dims], 0);
    // A search of no steps stays where it starts, and shows what the generator makes there.
    const { reconstruction } = await session.run({
      z: { data: z, dims: [z.length / zDim, zDim] },
      x: zeros(height, width, 1),
      fx: zeros(4, 4, 8 * channels),
      m: zeros(zDim),
      v: zeros(zDim),
      t: scalar(0),
      steps: { data: BigInt64Array.of(0n), dims: [] },
      lr: scalar(0),
      lambda: scalar(0),
    });
    pixels.set(reconstruction?.data as Float32Array, from * width * height);
  }
  await session.dispose();
  return Array.from({ length: count }, (_, i): SampleFilm => {
    const film = pixels.subarray(i * width * height, (i + 1) * width * height);
    const data = Uint8Array.from(film, (value) => Math.round((value + 1) * 127.5));
    const image = resize({ width, height, channels: 1, data }, SAMPLE_SIDE, SAMPLE_SIDE, 'cubic');
    if (!opacities || i % 3 !== 2) return { image, opacity: false };
    const opaque = OPACITIES.reduce((under, opacity, j) => {
      return addOpacity(under, { ...opacity, seed: seed + i * OPACITIES.length + j }).image;
    }, image);
    return { image: opaque, opacity: true };
  });
}
