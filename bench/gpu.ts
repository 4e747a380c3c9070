/**
 * Whether a GPU does what the CPU does, and how fast: bounded to `--minutes`, one table, JSON for a program.
 *
 *     npm run check:gpu                                  on the GPU that `webgpu` finds
 *     npm run check:gpu -- --device cuda                 on the CUDA provider of ONNX Runtime, where it is installed
 *     npm run check:gpu -- --device cpu --quick          tries the check itself, on any machine
 *     npm run check:gpu -- --json gpu.json --python python3 --films 2000
 *     npm run check:gpu -- --only 'self-test,whole graph'
 *     npm run check:gpu -- --only 'beside PyTorch' --works 'search,training'    the works whose names begin so
 *
 * PyTorch on the same device stands beside each row where `--python` has it; its arithmetic is float32, not TF32.
 * A ratio is our time ÷ the peer's. `bench/gpu/pack.sh` packs everything for a machine without registries.
 */
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import type { Setting } from './engine/contender.js';
import { compareBundles } from './gpu/bundles.js';
import { gpuDescription } from './gpu/description.js';
import { loseDevice } from './gpu/device-loss.js';
import { wholeGraph } from './gpu/graph.js';
import { steadyMemory } from './gpu/memory.js';
import type { Row, Section } from './gpu/row.js';
import { selfTest } from './gpu/self-test.js';
import { besidePyTorch } from './gpu/speed.js';
import { trainingSteps } from './gpu/training.js';

const { values: flags } = parseArgs({
  options: {
    device: { type: 'string', default: 'webgpu' },
    minutes: { type: 'string', default: '8' },
    python: { type: 'string', default: '/usr/bin/python3' },
    films: { type: 'string', default: '2000' },
    threads: { type: 'string', default: String(cpus().length) },
    quick: { type: 'boolean', default: false },
    json: { type: 'string' },
    only: { type: 'string' },
    works: { type: 'string', default: '' },
  },
});
if (!['cpu', 'webgpu', 'cuda'].includes(flags.device)) {
  throw new RangeError(`--device: expected cpu, webgpu or cuda, got "${flags.device}"`);
}

const setting: Setting & { films: number; quick: boolean; works: readonly string[] } = {
  device: flags.device as Setting['device'],
  threads: Number(flags.threads),
  python: flags.python,
  data: undefined,
  folder: '',
  films: flags.quick ? Math.min(50, Number(flags.films)) : Number(flags.films),
  quick: flags.quick,
  works: flags.works.split(','),
};

/** In the order in which they are worth having when the time runs out. */
const SECTIONS: Readonly<Record<string, Section>> = {
  'self-test': selfTest,
  'shipped bundles': compareBundles,
  'training steps': trainingSteps,
  'whole graph': wholeGraph,
  'beside PyTorch': besidePyTorch,
  'device loss': loseDevice,
  memory: steadyMemory,
};

const rows: (Row & { section: string })[] = [];
const deadline = Date.now() + Number(flags.minutes) * 60_000;
const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
const machine = {
  gpu: await gpuDescription(),
  cpu: `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores`,
  node: process.version,
  onnxRuntime: version,
  device: setting.device,
  at: new Date().toISOString(),
};
console.log(Object.values(machine).join(' · '));
const wanted = flags.only?.split(',') ?? Object.keys(SECTIONS);
for (const [section, check] of Object.entries(SECTIONS)) {
  if (!wanted.includes(section)) continue;
  const start = Date.now();
  try {
    for await (const row of check(setting)) {
      rows.push({ section, ...row });
      console.log(`  ${section}: ${textsOf(row).filter(Boolean).join(' | ')}`);
      if (flags.json !== undefined)
        await writeFile(flags.json, `${JSON.stringify({ machine, rows }, null, 2)}\n`);
      if (Date.now() > deadline) break;
    }
  } catch (error) {
    rows.push({
      section,
      what: 'the section',
      ok: false,
      detail: error instanceof Error ? error.message : String(error),
    });
    console.log(
      `  ${section}: FAILED: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
    );
  }
  console.log(`  ${section}: ${((Date.now() - start) / 1000).toFixed(0)} s`);
  if (Date.now() > deadline) {
    rows.push({
      section: 'check',
      what: `${flags.minutes} minutes`,
      ok: false,
      detail: `the time was up after "${section}"`,
    });
    break;
  }
}

const table = new Table({
  head: ['section', 'what', 'ours', 'peer', 'ratio', 'goal', '', ''],
  style: { head: [] },
});
for (const row of rows) table.push([row.section, ...textsOf(row)]);
console.log(table.toString());
if (flags.json !== undefined) await writeFile(flags.json, `${JSON.stringify({ machine, rows }, null, 2)}\n`);
process.exit(rows.some(({ ok }) => ok === false) ? 1 : 0);

function textsOf({ what, ours, peer, goal, ok, detail }: Row): string[] {
  const ratio = typeof ours === 'number' && typeof peer === 'number' ? (ours / peer).toFixed(2) : '';
  const number = (value: number | string | undefined): string =>
    typeof value === 'number' ? value.toPrecision(3) : (value ?? '');
  return [
    what,
    number(ours),
    number(peer),
    ratio,
    goal ?? '',
    ok === undefined ? '' : ok ? 'met' : 'MISSED',
    detail ?? '',
  ];
}
