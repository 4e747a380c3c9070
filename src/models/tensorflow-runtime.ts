import { Piscina } from 'piscina';
import type { HostTensor, HostTensors } from '../engine/index.js';
import type { SearchNetworks } from './anomaly-scorer.js';
import type { TensorflowTask } from './tensorflow-worker.js';

const ARCHITECTURES: ReadonlySet<unknown> = new Set(['resnet', 'dcgan', 'patchcore', 'unet']);

/**
 * Runs a bundle's network as the TensorFlow.js function that it was exported from, with the weights out of its ONNX
 * files, in its own thread.
 */
export class TensorflowRuntime implements SearchNetworks {
  readonly #thread: Piscina<TensorflowTask, HostTensors>;

  private constructor() {
    this.#thread = new Piscina({
      filename: new URL('./tensorflow-worker-entry.cjs', import.meta.url).href,
      minThreads: 1,
      maxThreads: 1,
    });
  }

  /**
   * Throws, with the install line, when native TensorFlow is not installed, and if `architecture` is not one of
   * rxray's.
   */
  static async open(
    architecture: Readonly<Record<string, unknown>>,
    files: readonly Uint8Array[],
  ): Promise<TensorflowRuntime> {
    if (!ARCHITECTURES.has(architecture.name)) {
      throw new Error(
        `\`runtime: tensorflow\` runs bundles trained by rxray (${[...ARCHITECTURES].join(', ')}), this one is ` +
          `"${String(architecture.name)}": use \`runtime: onnx\``,
      );
    }
    // TensorFlow writes what it found of the processor to standard error, unless told otherwise.
    process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
    // The kernels of oneDNN round differently on each processor: on one with AVX-512 a latent search ended 1.1e-4 away.
    process.env.TF_ENABLE_ONEDNN_OPTS ??= '0';
    const runtime = new TensorflowRuntime();
    try {
      await runtime.#thread.run({ do: 'open', architecture, files });
    } catch (error) {
      await runtime.dispose();
      throw error;
    }
    return runtime;
  }

  /** images [N,S,S,1] → `logits`, `probabilities`. */
  classify(images: HostTensor): Promise<HostTensors> {
    return this.#thread.run({ do: 'classify', images });
  }

  /** images [N,64,64,1] → the discriminator's features [N,4,4,C]. */
  features(images: HostTensor): Promise<HostTensor> {
    return this.#one('features', { do: 'features', images });
  }

  /** images [N,64,64,1] → z [N,zDim]. */
  encode(images: HostTensor): Promise<HostTensor> {
    return this.#one('z', { do: 'encode', images });
  }

  /** images [N,S,S,1] → distances [N,patches,M] to the remembered patches. */
  distances(images: HostTensor): Promise<HostTensor> {
    return this.#one('distances', { do: 'distances', images });
  }

  /** images [N,S,S,1] → probabilities [N,S,S,1] of belonging to the structure. */
  segment(images: HostTensor): Promise<HostTensors> {
    return this.#thread.run({ do: 'segment', images });
  }

  /** How many tensors TensorFlow holds: the weights, between two batches. */
  async tensorCount(): Promise<number> {
    return Number((await this.#one('tensors', { do: 'memory' })).data[0]);
  }

  search(feeds: HostTensors): Promise<HostTensors> {
    return this.#thread.run({ do: 'search', feeds });
  }

  dispose(): Promise<void> {
    return this.#thread.destroy();
  }

  async #one(name: string, task: TensorflowTask): Promise<HostTensor> {
    const { [name]: tensor } = await this.#thread.run(task);
    if (tensor === undefined) throw new Error(`TensorFlow.js returned no "${name}"`);
    return tensor;
  }
}
