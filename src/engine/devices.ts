import type { EngineLog, LoadOptions } from './engine.js';
import { sizeOf, type HostTensor, type HostTensors } from './host-tensor.js';
import type { Device } from './protocol.js';
import type { EngineSession } from './session.js';
import { traceToOnnx } from './trace.js';
import * as tf from '@tensorflow/tfjs-core';

/** What `rxray doctor` prints about a device. */
export interface DeviceReport {
  readonly device: Device;
  readonly available: boolean;
  /** Why not, or how far its results are from the CPU's. */
  readonly detail: string;
}

/** `Engine.load`. */
export type Load = (model: Uint8Array, options: LoadOptions) => Promise<EngineSession>;

/** Largest difference from the CPU, relative to the largest value, at which a device is trusted. */
const TOLERANCE = 1e-3;
/** GPUs, the preferred first. */
export const GPU_DEVICES: readonly Device[] = ['cuda', 'webgpu'];

/** The first GPU that agrees with the CPU on a small graph, else the CPU. */
export async function selfTest(load: Load, log: EngineLog | undefined): Promise<Device> {
  for (const device of GPU_DEVICES) {
    const { available, detail } = await probe(load, device);
    if (available) {
      log?.info(`Running on ${device}: ${detail}.`);
      return device;
    }
    log?.info(`Not using ${device}: ${detail}`);
  }
  return 'cpu';
}

/** Compares a device with the CPU on a small graph. */
export async function probe(load: Load, device: Device): Promise<DeviceReport> {
  try {
    const expected = await runProbe(load, 'cpu');
    const given = await runProbe(load, device);
    const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    const worst = expected.reduce(
      (max, value, index) => Math.max(max, Math.abs(value - (given[index] ?? NaN))),
      0,
    );
    const relative = worst / largest;
    return {
      device,
      available: relative <= TOLERANCE,
      detail: `largest difference from the CPU ${relative.toExponential(1)} (allowed ${String(TOLERANCE)})`,
    };
  } catch (error) {
    return { device, available: false, detail: error instanceof Error ? error.message : String(error) };
  }
}

async function runProbe(load: Load, device: Device): Promise<Float32Array> {
  const session = await load(probeModel(), { device, name: `self-test on ${device}` });
  try {
    const { y } = await session.run({ x: ramp([2, 8, 8, 4]) });
    return y?.data instanceof Float32Array ? y.data : new Float32Array();
  } finally {
    await session.dispose();
  }
}

function probeModel(): Uint8Array {
  const variables: HostTensors = { kernel: ramp([3, 3, 4, 8]), dense: ramp([8, 4]) };
  return traceToOnnx(
    ({ x }, { kernel, dense }) => {
      const features = tf.relu(tf.conv2d(x as tf.Tensor4D, kernel as tf.Tensor4D, 2, 'same'));
      return { y: tf.softmax(tf.matMul(tf.mean(features, [1, 2]), dense as tf.Tensor2D)) };
    },
    { x: { shape: [1, 8, 8, 4] } },
    { variables, freeze: true, batch: 'symbolic' },
  ).bytes;
}

function ramp(dims: readonly number[]): HostTensor {
  return { dims, data: Float32Array.from({ length: sizeOf(dims) }, (_, index) => Math.sin(index * 0.7) / 4) };
}
