import { Engine } from '../../src/engine/index.js';
import { exportResnet, initResnet, normalNoise, seededRandom } from '../../src/models/index.js';
import { nvidiaSmi } from './description.js';
import type { Section } from './row.js';

const MIB = 2 ** 20;
/** What may come on top between batch 50 and batch 500. */
const SLACK_MIB = 64;

/** Memory of the device and of the process after 50 and after 500 batches of one session. */
export const steadyMemory: Section = async function* ({ device, quick }) {
  const options = { depth: 18, width: 32, inputSize: 128, classes: 3 } as const;
  const engine = new Engine();
  const session = await engine.load(exportResnet(initResnet(options, 1), options).bytes, { device });
  const images = normalNoise([16, 128, 128, 1], seededRandom(1));
  const read = async (): Promise<{ device: number; process: number }> => ({
    device: Number((await nvidiaSmi('memory.used'))?.[0] ?? 0),
    process: process.memoryUsage().rss / MIB,
  });
  const batches = quick ? 50 : 500;
  for (let done = 0; done < batches / 10; done++) await session.run({ images });
  const early = await read();
  for (let done = 0; done < (batches * 9) / 10; done++) await session.run({ images });
  const late = await read();
  await engine.dispose();
  for (const [what, key] of [
    ['the GPU, MiB', 'device'],
    ['the process, MiB', 'process'],
  ] as const) {
    yield {
      what: `${what}: after ${String(batches / 10)} and ${String(batches)} batches`,
      ours: `${early[key].toFixed(0)} → ${late[key].toFixed(0)}`,
      goal: `+ ${String(SLACK_MIB)} at most`,
      ok: late[key] - early[key] <= SLACK_MIB,
    };
  }
};
