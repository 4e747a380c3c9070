import { availableParallelism } from 'node:os';
import * as ort from 'onnxruntime-node';
import { EMPTY } from 'rxjs';
import { Engine, type EngineSession, type HostTensor, type HostTensors } from '../../engine/index.js';

/** A runtime that keeps every image that a model is fed, in the order of the runs. */
export interface Recorder {
  readonly tensors: Float32Array[];
}

/** The engine as a {@link Recorder}. */
export class RecordingEngine extends Engine implements Recorder {
  readonly tensors: Float32Array[] = [];

  override async load(...request: Parameters<Engine['load']>): Promise<EngineSession> {
    const session = await super.load(...request);
    const run = session.run.bind(session);
    session.run = (feeds) => {
      this.tensors.push(...imagesIn(feeds));
      return run(feeds);
    };
    return session;
  }
}

/** ONNX Runtime in this thread, without the engine, as a {@link Recorder}. */
export class PlainRuntime implements Recorder {
  readonly tensors: Float32Array[] = [];
  readonly idle = true;
  readonly idle$ = EMPTY;

  async load(bytes: Uint8Array): Promise<Pick<EngineSession, 'inputs' | 'outputs' | 'run' | 'dispose'>> {
    const session = await ort.InferenceSession.create(bytes, {
      executionProviders: ['cpu'],
      intraOpNumThreads: availableParallelism(),
      logSeverityLevel: 3,
    });
    const infoOf = (all: readonly ort.InferenceSession.ValueMetadata[]): EngineSession['inputs'] =>
      all.flatMap((info) =>
        info.isTensor ? [{ name: info.name, dtype: info.type as 'float32', dims: [...info.shape] }] : [],
      );
    return {
      inputs: infoOf(session.inputMetadata),
      outputs: infoOf(session.outputMetadata),
      run: async (feeds) => {
        this.tensors.push(...imagesIn(feeds));
        const tensors = Object.entries(feeds).map(([name, { data, dims }]) => [
          name,
          new ort.Tensor(data as Float32Array, dims),
        ]);
        const results = await session.run(Object.fromEntries(tensors) as Record<string, ort.Tensor>);
        return Object.fromEntries(
          Object.entries(results).map(([name, { data, dims }]) => [name, { data, dims } as HostTensor]),
        );
      },
      dispose: () => session.release(),
    };
  }

  dispose(): Promise<void> {
    return Promise.resolve();
  }
}

/**
 * The images among a network's inputs: the input `images`, or the only input of a foreign network. A latent search
 * takes each film once per start.
 */
function imagesIn(feeds: HostTensors): Float32Array[] {
  const [only, ...more] = Object.values(feeds);
  const images = feeds.images ?? (more.length === 0 ? only : undefined);
  const [films = 0, ...image] = images?.dims ?? [];
  if (images === undefined || image.length !== 3) return [];
  const size = image.reduce((a, b) => a * b, 1);
  const values = images.data as Float32Array;
  return Array.from({ length: films }, (_, i) => values.slice(i * size, (i + 1) * size));
}
