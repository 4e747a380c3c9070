import type { Engine, HostTensor, HostTensors } from '../engine/index.js';
import { readBundleFile, type Bundle } from './bundle.js';

/** Baseline scores for anomaly models: higher is more anomalous, one per image. */
export type Baselines = Partial<Record<'pca' | 'discriminator', number[]>>;

const AT_ONCE = 64;

/**
 * The baselines in the bundle: the reconstruction error of a PCA of normal films, and, of an AnoGAN, the
 * discriminator's output alone (−logit).
 *
 * @param images [N,H,W,1] as the stage's model sees them (`inputTensor(images, bundle.input)`).
 */
export async function baselineScores(
  engine: Engine,
  dir: string,
  bundle: Bundle,
  images: HostTensor,
): Promise<Baselines> {
  const { mean, std } = bundle.input;
  const scores: Baselines = {};
  if (bundle.files.pca !== undefined) {
    // The PCA is of films of 0–1, whatever the network takes.
    const scaled = (images.data as Float32Array).map((value) => value * (std[0] ?? 1) + (mean[0] ?? 0));
    const error = await perImage(
      engine,
      dir,
      bundle,
      'pca',
      { data: scaled, dims: images.dims },
      ({ error }) => error,
    );
    if (error !== undefined) scores.pca = error;
  }
  if (bundle.files.features !== undefined) {
    const logits = await perImage(engine, dir, bundle, 'features', images, ({ logits }) => logits);
    if (logits !== undefined) scores.discriminator = logits.map((logit) => -logit);
  }
  return scores;
}

/** One number per image; undefined where the file gives none: bundles of before. */
async function perImage(
  engine: Engine,
  dir: string,
  bundle: Bundle,
  role: string,
  { data, dims: [n = 0, ...inner] }: HostTensor,
  pick: (outputs: HostTensors) => HostTensor | undefined,
): Promise<number[] | undefined> {
  const session = await engine.load(await readBundleFile(dir, bundle, role), { name: role, device: 'cpu' });
  const size = data.length / Math.max(1, n);
  const values: number[] = [];
  try {
    for (let from = 0; from < n; from += AT_ONCE) {
      const count = Math.min(AT_ONCE, n - from);
      const part = (data as Float32Array).slice(from * size, (from + count) * size);
      const found = pick(await session.run({ images: { data: part, dims: [count, ...inner] } }));
      if (found === undefined) return undefined;
      values.push(...Array.from(found.data, Number));
    }
    return values;
  } finally {
    await session.dispose();
  }
}
