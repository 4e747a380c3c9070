import sharp from 'sharp';
import { RxrayError } from '../core/errors.js';
import type { Image } from '../core/frame.js';
import { readInitializers, type Engine, type EngineSession } from '../engine/index.js';
import { readBundleFile } from '../models/bundle.js';
import { gradCamModel } from '../models/grad-cam.js';
import { inputTensor } from '../models/input-tensor.js';
import type { ResnetOptions } from '../models/resnet.js';
import type { Model } from './models.js';

/** Whether its network was trained by rxray, so that gradients are available. */
export function hasGradCam({ bundle }: Model): boolean {
  return bundle.kind === 'classifier' && bundle.architecture['name'] === 'resnet';
}

/** Grad-CAM maps of classifiers (Selvaraju et al. 2017, Jiang et al. 2021). Networks are kept until disposal. */
export class GradCam {
  readonly #sessions = new Map<string, Promise<EngineSession>>();

  constructor(private readonly engine: Engine) {}

  /** The map, 8 bit, black where there is no evidence for `label`; it is as large as the model's input. */
  async draw(model: Model, image: Image, label: string): Promise<Image> {
    const { bundle, folder } = model;
    const index = bundle.labels.indexOf(label);
    if (!hasGradCam(model) || index < 0) {
      throw new RxrayError(
        'CONTROL_REFUSED',
        `expected a ResNet of rxray's own and one of its labels, got "${label}" of "${folder}"`,
      );
    }
    const target = new Float32Array(bundle.labels.length);
    target[index] = 1;
    const session = await this.#open(model);
    const { map } = await session.run({
      images: inputTensor([image], bundle.input),
      target: { data: target, dims: [1, target.length] },
    });
    const [, height = 0, width = 0] = map?.dims ?? [];
    const values = map?.data as Float32Array;
    const highest = values.reduce((a, b) => Math.max(a, b), 1e-12);
    const small = Uint8Array.from(values, (value) => Math.round((255 * value) / highest));
    const size = { width: bundle.input.width, height: bundle.input.height };
    const data = await sharp(small, { raw: { width, height, channels: 1 } })
      .resize({ ...size, kernel: 'cubic', fit: 'fill' })
      .toColourspace('b-w')
      .raw()
      .toBuffer();
    return { ...size, channels: 1, data };
  }

  async close(): Promise<void> {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const session of sessions) await session.then((open) => open.dispose()).catch(() => undefined);
  }

  #open({ dir, bundle }: Model): Promise<EngineSession> {
    const key = bundle.files['model']?.sha256 ?? dir;
    let session = this.#sessions.get(key);
    if (session === undefined) {
      session = this.#load(dir, bundle);
      this.#sessions.set(key, session);
      session.catch(() => this.#sessions.delete(key));
    }
    return session;
  }

  async #load(dir: string, bundle: Model['bundle']): Promise<EngineSession> {
    const parameters = readInitializers(await readBundleFile(dir, bundle, 'model'));
    const { bytes } = gradCamModel(parameters, bundle.architecture as unknown as ResnetOptions);
    return this.engine.load(bytes, { name: 'Grad-CAM' });
  }
}
