import type { Image } from '../../core/frame.js';
import { messageOf } from '../../core/errors.js';
import type { Engine } from '../../engine/index.js';
import { readBundleFile, type Bundle } from '../../models/bundle.js';
import { inputTensor } from '../../models/input-tensor.js';
import { seededRandom, shuffled } from '../../models/random.js';
import { principalComponents, tsne, umap, type Point } from './embedding.js';
import type { Evaluation } from './evaluate.js';
import { called, openGradCam, type EvidenceMap } from './grad-cam.js';

/** Grad-CAM maps and embeddings of the features. */
export interface Explanation {
  readonly gradCam: GradCam | null;
  /** Why there is none. */
  readonly withoutGradCam?: string;
  readonly embeddings: readonly Embedding[];
  /** Why there are none. */
  readonly withoutEmbeddings?: string;
}

export interface GradCam {
  /** The films that have a map. */
  readonly films: readonly number[];
  /** By film. */
  readonly maps: ReadonlyMap<number, EvidenceMap>;
}

export interface Embedding {
  readonly name: string;
  readonly films: readonly number[];
  readonly points: readonly Point[];
}

/** Maximum number of points: more overlap, and all pairs take long. */
const EMBEDDED_FILMS = 400;
const BATCH = 32;

/**
 * @param wanted Films to draw Grad-CAM maps of, of the class that the model names.
 */
export async function explain(
  dir: string,
  bundle: Bundle,
  evaluation: Evaluation,
  wanted: readonly number[],
  engine: Engine,
): Promise<Explanation> {
  const { images } = evaluation;
  const some = sample(images.length, EMBEDDED_FILMS);
  if (evaluation.kind === 'classifier') {
    const network = await openGradCam(dir, bundle, engine).catch((error: unknown) => messageOf(error));
    if (typeof network === 'string') {
      return {
        gradCam: null,
        withoutGradCam: network,
        embeddings: embeddingsOf(
          some,
          some.map((film) => (evaluation.said.probabilities[film] ?? []).map((p) => Math.log(p + 1e-6))),
          'of the log-probabilities',
        ),
      };
    }
    const classes = called(evaluation.said.probabilities);
    const maps = await network.run(wanted, images, classes);
    const features = await network.run(some, images, classes);
    await network.dispose();
    return {
      gradCam: { films: wanted, maps: new Map(maps.map(({ film, map }) => [film, map])) },
      embeddings: embeddingsOf(
        some,
        features.map((each) => each.features),
        "of the classifier's features",
      ),
    };
  }
  if (bundle.kind !== 'anogan') {
    return { gradCam: null, embeddings: [], withoutEmbeddings: 'only an AnoGAN has a discriminator' };
  }
  const session = await engine.load(await readBundleFile(dir, bundle, 'features'), { name: 'features' });
  const rows: Float32Array[] = [];
  for (let from = 0; from < some.length; from += BATCH) {
    const films = some.slice(from, from + BATCH).map((film) => images[film] as Image);
    const { features } = await session.run({ images: inputTensor(films, bundle.input) });
    const data = features?.data as Float32Array;
    const length = data.length / films.length;
    films.forEach((_, i) => rows.push(data.slice(i * length, (i + 1) * length)));
  }
  await session.dispose();
  return { gradCam: null, embeddings: embeddingsOf(some, rows, "of the discriminator's features") };
}

function embeddingsOf(
  films: readonly number[],
  features: readonly ArrayLike<number>[],
  what: string,
): Embedding[] {
  // Minimum number of films for an embedding.
  if (films.length < 10) return [];
  const components = principalComponents(features);
  return [
    { name: `t-SNE ${what}`, films, points: tsne(components) },
    { name: `UMAP ${what}`, films, points: umap(components) },
  ];
}

function sample(count: number, most: number): number[] {
  return Array.from(shuffled(count, seededRandom(1)).slice(0, most)).sort((a, b) => a - b);
}
