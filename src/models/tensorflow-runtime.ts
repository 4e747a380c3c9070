import { extname } from 'node:path';
import { Piscina } from 'piscina';
import type { HostTensor, HostTensors } from '../engine/index.js';
import type { SearchNetworks } from './anomaly-scorer.js';
import type { TensorflowTask } from './tensorflow-worker.js';

/**
 * Runs a bundle's network as the TensorFlow.js function that it was exported from, with the weights out
 * of its ONNX files, in a thread of its own.
 */
export class TensorflowRuntime implements SearchNetworks {
  readonly #thread: Piscina<TensorflowTask, HostTensors>;

  private constructor() {
    this.#thread = new Piscina({
      filename: new URL(`./tensorflow-worker${extname(import.meta.url)}`, import.meta.url).href,
      minThreads: 1,
      maxThreads: 1,
    });
  }

  /** Throws, with the install line, when native TensorFlow is not installed, and when `architecture` is none of ours. */
  static async open(
    architecture: Readonly<Record<string, unknown>>,
    files: readonly Uint8Array[],
  ): Promise<TensorflowRuntime> {
    if (architecture.name !== 'resnet' && architecture.name !== 'dcgan') {
      throw new Error(
        `\`runtime: tensorflow\` runs bundles trained by rxray (resnet, dcgan), this one is "${String(architecture.name)}": use \`runtime: onnx\``,
      );
    }
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

  async features(images: HostTensor): Promise<HostTensor> {
    const { features } = await this.#thread.run({ do: 'features', images });
    if (features === undefined) throw new Error('the feature network returns no "features"');
    return features;
  }

  async encode(images: HostTensor): Promise<HostTensor> {
    const { z } = await this.#thread.run({ do: 'encode', images });
    if (z === undefined) throw new Error('the encoder returns no "z"');
    return z;
  }

  search(feeds: HostTensors): Promise<HostTensors> {
    return this.#thread.run({ do: 'search', feeds });
  }

  dispose(): Promise<void> {
    return this.#thread.destroy();
  }
}
