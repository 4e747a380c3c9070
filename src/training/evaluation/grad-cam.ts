import type { Image } from '../../core/frame.js';
import { readInitializers, type Engine } from '../../engine/index.js';
import { readBundleFile, type Bundle } from '../../models/bundle.js';
import { gradCamModel } from '../../models/grad-cam.js';
import { inputTensor } from '../../models/input-tensor.js';
import type { ResnetOptions } from '../../models/resnet.js';

/** Evidence for a class, 0–1, row by row. */
export interface EvidenceMap {
  readonly width: number;
  readonly height: number;
  readonly data: Float32Array;
}

export interface Explained {
  readonly film: number;
  /** Pooled activations of the last block. */
  readonly features: Float32Array;
  readonly map: EvidenceMap;
}

/** Grad-CAM of a classifier that rxray trained. */
export interface GradCamNetwork {
  /** @param classes Of each film of `images`: the class whose evidence is drawn. */
  run(films: readonly number[], images: readonly Image[], classes: readonly number[]): Promise<Explained[]>;
  dispose(): Promise<void>;
}

const BATCH = 32;

/** Throws with the reason if the bundle was not trained by rxray. */
export async function openGradCam(dir: string, bundle: Bundle, engine: Engine): Promise<GradCamNetwork> {
  if (bundle.architecture.name !== 'resnet') {
    throw new Error('it is drawn for networks that rxray trained, and this one comes from elsewhere');
  }
  const options = bundle.architecture as unknown as ResnetOptions;
  const parameters = readInitializers(await readBundleFile(dir, bundle, 'model'));
  const session = await engine.load(gradCamModel(parameters, options).bytes, { name: 'Grad-CAM' });
  return {
    async run(films, images, classes) {
      const explained: Explained[] = [];
      for (let from = 0; from < films.length; from += BATCH) {
        const part = films.slice(from, from + BATCH);
        const target = new Float32Array(part.length * options.classes);
        part.forEach((film, i) => (target[i * options.classes + (classes[film] ?? 0)] = 1));
        const { map, features } = await session.run({
          images: inputTensor(
            part.map((film) => images[film] as Image),
            bundle.input,
          ),
          target: { data: target, dims: [part.length, options.classes] },
        });
        const [, height = 0, width = 0] = map?.dims ?? [];
        const channels = features?.dims[1] ?? 0;
        part.forEach((film, i) => {
          const data = (map?.data as Float32Array).slice(i * width * height, (i + 1) * width * height);
          const highest = Math.max(...data, 1e-12);
          explained.push({
            film,
            features: (features?.data as Float32Array).slice(i * channels, (i + 1) * channels),
            map: { width, height, data: data.map((v) => v / highest) },
          });
        });
      }
      return explained;
    },
    dispose: () => session.dispose(),
  };
}

/** The class that each film is called. */
export function called(probabilities: readonly (readonly number[])[]): number[] {
  return probabilities.map((row) => row.indexOf(Math.max(...row)));
}
