import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { arch, platform } from 'node:os';
import { dirname, join } from 'node:path';
import type { EngineLog, LoadOptions } from './load-options.js';
import type { Device } from './protocol.js';
import type { EngineSession } from './session.js';

/** What `rxray doctor` prints about a device. */
export interface DeviceReport {
  readonly device: Device;
  readonly available: boolean;
  /** The reason against it, or the difference of its results from the CPU's. */
  readonly detail: string;
}

/** `Engine.load`. */
export type Load = (model: Uint8Array, options: LoadOptions) => Promise<EngineSession>;

/** Largest difference from the CPU, relative to the largest value, at which a device is trusted. */
const TOLERANCE = 1e-3;
/** GPUs, the preferred first. */
export const GPU_DEVICES: readonly Device[] = ['cuda', 'webgpu'];

/** The first GPU that agrees with the CPU on a small graph, else the CPU. Logs its choice with the reasons, in one line. */
export async function selfTest(load: Load, log: EngineLog | undefined): Promise<Device> {
  const reasons: string[] = [];
  let chosen: Device = 'cpu';
  for (const device of GPU_DEVICES) {
    const { available, detail } = await probe(load, device);
    reasons.push(`${device}: ${detail.split('\n')[0] ?? ''}`);
    if (!available) continue;
    chosen = device;
    break;
  }
  log?.info(`device: auto runs models on ${chosen} (${reasons.join('; ')})`);
  return chosen;
}

/** Compares a device with the CPU on a small graph. */
export async function probe(load: Load, device: Device): Promise<DeviceReport> {
  const missing = absence(device);
  if (missing !== '') return { device, available: false, detail: missing };
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
  // Only now: TensorFlow.js takes a quarter of a second to load.
  const { probeInput, probeModel } = await import('./probe-model.js');
  const session = await load(probeModel(), { device, name: `self-test on ${device}` });
  try {
    const { y } = await session.run({ x: probeInput() });
    return y?.data instanceof Float32Array ? y.data : new Float32Array();
  } finally {
    await session.dispose();
  }
}

/**
 * Why the device cannot be available, without calling ONNX Runtime, whose native libraries write to standard error if
 * others are missing. Empty if it may be available.
 */
function absence(device: Device): string {
  if (platform() !== 'linux') return '';
  if (!hasGpu()) return 'no GPU: neither /dev/nvidia0 nor /dev/dri/renderD* exists';
  if (device === 'cuda' && !existsSync(CUDA_PROVIDER))
    return `the CUDA runtime is not installed: ${CUDA_PROVIDER}`;
  return '';
}

function hasGpu(): boolean {
  const nodes = existsSync('/dev/dri') ? readdirSync('/dev/dri') : [];
  return existsSync('/dev/nvidia0') || nodes.some((node) => node.startsWith('renderD'));
}

const CUDA_PROVIDER = join(
  dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')),
  `bin/napi-v6/${platform()}/${arch()}/libonnxruntime_providers_cuda.so`,
);
