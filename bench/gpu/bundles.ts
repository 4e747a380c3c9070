import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Engine, type EngineSession, type HostTensor, type HostTensors } from '../../src/engine/index.js';
import { readBundle } from '../../src/models/bundle.js';
import { normalNoise, seededRandom } from '../../src/models/index.js';
import type { Section } from './row.js';

const MODELS = fileURLToPath(new URL('../../models/', import.meta.url));
const BATCH = 4;
const STEPS = 10n;
/** Largest difference, relative to the largest value of the output. */
const TOLERANCE = 1e-3;

/** Every file of every shipped bundle on the device and on the CPU, element by element, on the same random input. */
export const compareBundles: Section = async function* ({ device }) {
  const folders = (await readdir(MODELS, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const engine = new Engine();
  try {
    for (const { name } of folders) {
      const { files } = await readBundle(`${MODELS}${name}`);
      for (const { path } of Object.values(files)) {
        if (!path.endsWith('.onnx')) continue;
        const bytes = await readFile(`${MODELS}${name}/${path}`);
        const what = `${name}/${path}`;
        try {
          const cpu = await engine.load(bytes, { name: what, device: 'cpu' });
          const other = await engine.load(bytes, { name: what, device });
          const feeds = feedsOf(cpu);
          const worst = worstDifference(await cpu.run(feeds), await other.run(feeds));
          yield {
            what,
            ours: worst.toExponential(1),
            goal: `≤ ${String(TOLERANCE)} relative`,
            ok: worst <= TOLERANCE,
          };
          await cpu.dispose();
          await other.dispose();
        } catch (error) {
          yield { what, ok: false, detail: error instanceof Error ? error.message : String(error) };
        }
      }
    }
  } finally {
    await engine.dispose();
  }
};

/** Something of the right shape for every input: what a latent search counts is counted, its momentum begins at zero. */
function feedsOf({ inputs }: EngineSession): HostTensors {
  const random = seededRandom(1);
  return Object.fromEntries(
    inputs.map(({ name, dtype, dims }): [string, HostTensor] => {
      const shape = dims.map((dim) => (typeof dim === 'string' ? BATCH : dim));
      if (dtype === 'int64') return [name, { data: BigInt64Array.of(STEPS), dims: shape }];
      if (shape.length === 0) return [name, { data: Float32Array.of(name === 'lr' ? 0.01 : 0), dims: [] }];
      const noise = normalNoise(shape, random, { mean: 0.3, std: 0.3 });
      return [
        name,
        name === 'm' || name === 'v' ? { ...noise, data: new Float32Array(noise.data.length) } : noise,
      ];
    }),
  );
}

function worstDifference(expected: HostTensors, given: HostTensors): number {
  let worst = 0;
  for (const [name, { data }] of Object.entries(expected)) {
    const other = given[name]?.data;
    if (other?.length !== data.length) return Infinity;
    let largest = 1e-12;
    let difference = 0;
    for (const [i, value] of data.entries()) {
      largest = Math.max(largest, Math.abs(Number(value)));
      const apart = Math.abs(Number(value) - Number(other[i]));
      difference = Number.isNaN(apart) ? Infinity : Math.max(difference, apart);
    }
    worst = Math.max(worst, difference / largest);
  }
  return worst;
}
