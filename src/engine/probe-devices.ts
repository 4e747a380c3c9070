import { GPU_DEVICES, probe, type DeviceReport, type Load } from './devices.js';
import { Engine } from './engine.js';

/** Tries every device on a small graph, in an engine of its own. */
export async function probeDevices(): Promise<DeviceReport[]> {
  const engine = new Engine();
  try {
    const load: Load = (model, options) => engine.load(model, options);
    const reports: DeviceReport[] = [{ device: 'cpu', available: true, detail: 'ONNX Runtime' }];
    for (const device of GPU_DEVICES) reports.push(await probe(load, device));
    return reports;
  } finally {
    await engine.dispose();
  }
}
