import type { Image } from '../core/frame.js';
import type { Engine } from '../engine/index.js';
import { resize } from '../imaging/kernels.js';
import { addOpacity } from '../imaging/phantom.js';
import { readBundle, readBundleFile } from '../models/bundle.js';
import { normalNoise, seededRandom } from '../models/random.js';

/** A film that shows nobody: the generator made it up. */
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
 * Two opacities in each lung, together denser than most pneumonias: of 24 such films the shipped classifier
 * calls none normal, and the shipped AnoGAN puts all above the 95th percentile. What is smaller or fainter,
 * or in one lung only, they often miss.
 */
const OPACITIES = [
  { x: 0.3, y: 0.55 },
  { x: 0.27, y: 0.42 },
  { x: 0.7, y: 0.55 },
  { x: 0.68, y: 0.4 },
].map((middle) => ({ ...middle, radius: 0.26, strength: 0.6 }));

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
  const session = await engine.load(await readBundleFile(bundleDir, bundle, 'generator'), {
    name: 'generator',
    device: 'cpu',
  });
  const zDim = Number(bundle.architecture.zDim);
  const { images } = await session.run({
    z: normalNoise([count, zDim], seededRandom(seed), { std: TRUNCATION }),
  });
  await session.dispose();
  const pixels = images?.data as Float32Array;
  const { width, height } = bundle.input;
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
