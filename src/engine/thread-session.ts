import * as ort from 'onnxruntime-node';
import type { HostTensor, HostTensors } from './host-tensor.js';

/**
 * An ONNX model in the calling thread, on one core. ONNX Runtime's binding blocks its thread, so this is for
 * threads that may block: those of stages that run in workers. Everything else takes the {@link Engine}.
 */
export class ThreadSession {
  private constructor(private readonly session: ort.InferenceSession) {}

  /** Rejects when the bytes are no ONNX model that ONNX Runtime can run. */
  static async open(bytes: Uint8Array): Promise<ThreadSession> {
    return new ThreadSession(
      await ort.InferenceSession.create(bytes, {
        executionProviders: ['cpu'],
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        graphOptimizationLevel: 'all',
        logSeverityLevel: 3,
      }),
    );
  }

  /** Float inputs by name in, float outputs by name out. */
  async run(feeds: Readonly<Record<string, HostTensor>>): Promise<HostTensors> {
    const inputs = Object.fromEntries(
      Object.entries(feeds).map(([name, { data, dims }]) => [
        name,
        new ort.Tensor('float32', data as Float32Array, dims),
      ]),
    );
    const outputs = await this.session.run(inputs);
    return Object.fromEntries(
      Object.entries(outputs).map(([name, { data, dims }]) => [
        name,
        { data: data as Float32Array, dims: [...dims] },
      ]),
    );
  }

  dispose(): Promise<void> {
    return this.session.release();
  }
}
