import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { Piscina } from 'piscina';
import type { HostTensor, HostTensors } from '../engine/index.js';
import type { SearchNetworks } from './anomaly-scorer.js';
import type { TensorflowTask } from './tensorflow-worker.js';

/**
 * The packages that run TensorFlow.js, best first. The last one is plain JavaScript, hundreds of times
 * slower; it is there to test the others' path.
 */
const PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node', '@tensorflow/tfjs-backend-cpu'];

/**
 * Runs a bundle's network as the TensorFlow.js function that it was exported from, with the weights out
 * of its ONNX files, in a thread of its own.
 */
export class TensorflowRuntime implements SearchNetworks {
  readonly #thread: Piscina<TensorflowTask, HostTensors>;

  private constructor(readonly module: string) {
    this.#thread = new Piscina({
      filename: new URL(`./tensorflow-worker${extname(import.meta.url)}`, import.meta.url).href,
      minThreads: 1,
      maxThreads: 1,
    });
  }

  /** Throws when none of the packages is installed, or when `architecture` is none of ours. */
  static async open(
    architecture: Readonly<Record<string, unknown>>,
    files: readonly Uint8Array[],
  ): Promise<TensorflowRuntime> {
    if (architecture.name !== 'resnet' && architecture.name !== 'dcgan') {
      throw new Error(
        `\`runtime: tensorflow\` runs bundles trained by rxray (resnet, dcgan), this one is "${String(architecture.name)}": use \`runtime: onnx\``,
      );
    }
    const module = installed();
    const runtime = new TensorflowRuntime(module);
    try {
      await runtime.#thread.run({ do: 'open', module, architecture, files });
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

  search(feeds: HostTensors): Promise<HostTensors> {
    return this.#thread.run({ do: 'search', feeds });
  }

  dispose(): Promise<void> {
    return this.#thread.destroy();
  }
}

function installed(): string {
  const require = createRequire(import.meta.url);
  const found = PACKAGES.find((name) => {
    try {
      require.resolve(name);
      return true;
    } catch {
      return false;
    }
  });
  if (found !== undefined) return found;
  throw new Error(
    '`runtime: tensorflow` needs TensorFlow.js for Node, which is not installed: ' +
      'npm install --ignore-scripts=false @tensorflow/tfjs-node-gpu (without a GPU: @tensorflow/tfjs-node), or use `runtime: onnx`',
  );
}
