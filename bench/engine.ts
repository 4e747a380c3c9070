/**
 * The engine beside its peers, in one run, by turns:
 *
 *     npm run bench:engine                              everything (about 15 minutes on two cores)
 *     npm run bench:engine -- --only 'ResNet-18' --quick
 *     npm run bench:engine -- --json figures.json --profile
 *     npm run bench:engine:docs -- figures.json         puts them into docs/performance.md
 *     npm run bench:engine -- --data ~/films            the search to quality on films, not on phantoms
 *     npm run bench:engine -- --device webgpu           beside PyTorch on that GPU
 *
 * PyTorch is that of `--python` (Debian's: apt-get install python3-torch python3-torchvision libopenblas0-pthread).
 * A ratio is our time ÷ the peer's: below 1 we are faster.
 */
import { createRequire } from 'node:module';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { median, type Contender, type Missing, type Setting, type Work } from './engine/contender.js';
import type { Figure } from './engine/figures.js';
import { measurePeak } from './engine/peak.js';
import { profile } from './engine/profile.js';
import { takeTurns } from './engine/turns.js';
import { WORKS } from './engine/works/index.js';

const { values: flags } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    quick: { type: 'boolean', default: false },
    device: { type: 'string', default: 'cpu' },
    threads: { type: 'string', default: '2' },
    python: { type: 'string', default: '/usr/bin/python3' },
    data: { type: 'string' },
    json: { type: 'string' },
    profile: { type: 'boolean', default: false },
  },
});

const LIMITS = flags.quick ? { turns: 3, longestMs: 4_000 } : { turns: 9, longestMs: 15_000 };

const folder = await mkdtemp(join(tmpdir(), 'rxray-bench-engine-'));
const setting: Setting = {
  device: deviceOf(flags.device),
  threads: Number(flags.threads),
  python: flags.python,
  data: flags.data,
  folder,
};
const table = new Table({
  head: ['work', 'ours', 'of peak', 'peer', 'its time', 'ratio', 'goal', ''],
  style: { head: [], border: [] },
});
const figures: Figure[] = [];
const printed = new Set<string>();
try {
  const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
  console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, ${setting.threads} threads, device ${setting.device}`);
  console.log(`Node ${process.version}, ONNX Runtime ${version}, ${new Date().toISOString()}`);
  const [load = 0] = loadavg();
  if (load > 0.7) console.log(`NOT IDLE: the load is ${load.toFixed(1)}; these figures mean little`);
  const peak = await measurePeak(setting);
  console.log(`measured peak (MatMul in ONNX Runtime): ${(peak / 1e9).toFixed(0)} GFLOP/s`);
  for (const make of WORKS) {
    const work = make();
    if (new RegExp(flags.only).test(work.name)) await measure(work, peak);
  }
  console.log(table.toString());
  if (flags.json !== undefined) await writeFile(flags.json, `${JSON.stringify(figures, null, 2)}\n`);
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function measure(work: Work, peak: number): Promise<void> {
  console.log(`\n${work.name}`);
  const ours = await work.ours(setting);
  const peers = await work.peers(setting);
  const present = peers.filter((peer): peer is Contender => !('missing' in peer));
  for (const contender of [ours, ...peers]) introduce(work, contender);
  const times = await takeTurns([ours, ...present], LIMITS);
  for (const { dispose } of [ours, ...present]) await dispose();

  const { stepsARun = 1, flops, goals } = work;
  const msOf = (contender: Contender): number => median(times.get(contender) ?? []) / stepsARun;
  const oursMs = msOf(ours);
  const share = flops ? flops() / (oursMs / 1000) / peak : undefined;
  let missed = false;
  for (const peer of peers) {
    const peerMs = 'missing' in peer ? null : msOf(peer);
    const ratio = peerMs === null ? null : oursMs / peerMs;
    const goal = goals[peer.name];
    const met = goal === undefined || ratio === null ? undefined : ratio <= goal;
    missed ||= met === false;
    const ofPeak = share ?? null;
    figures.push({ work: work.name, oursMs, ofPeak, peer: peer.name, peerMs, ratio, goal: goal ?? null });
    const row = [
      work.name,
      `${oursMs.toFixed(1)} ms`,
      share === undefined ? '' : `${(share * 100).toFixed(0)} %`,
      peer.name,
      peerMs === null ? 'missing' : `${peerMs.toFixed(1)} ms`,
      ratio?.toFixed(2) ?? '',
      goal === undefined ? '' : `≤ ${goal}`,
      met === undefined ? '' : met ? 'met' : 'MISSED',
    ];
    table.push(row);
    console.log(`  ${row.slice(1).filter(Boolean).join(' | ')}`);
  }
  if (flags.profile && (missed || flags.only !== '') && work.file) await printProfile(work.file());
}

/** Says how a peer runs; its libraries only once. */
function introduce(work: Work, peer: Contender | Missing): void {
  if ('missing' in peer) {
    console.log(`  ${peer.name}: missing (${peer.missing})`);
    return;
  }
  console.log(`  ${peer.name}: ${peer.mode}`);
  for (const [key, value] of Object.entries(peer.details)) {
    const line = `    ${key}: ${value}`;
    if (!printed.has(line)) console.log(line);
    printed.add(line);
  }
  if (peer.parameters !== undefined && work.parameters !== undefined && peer.parameters !== work.parameters)
    throw new Error(
      `${work.name}: ${peer.parameters} parameters in ${peer.name}, ${work.parameters} in ours`,
    );
}

async function printProfile({ bytes, batchSize }: { bytes: Uint8Array; batchSize: number }): Promise<void> {
  const { totalMs, types, nodes } = await profile(bytes, batchSize, setting);
  console.log(`  profile: ${totalMs.toFixed(1)} ms in nodes`);
  for (const [title, shares] of [
    ['by type', types],
    ['by type and shapes', nodes],
  ] as const) {
    console.log(`    ${title}`);
    for (const { name, ms, count } of shares.slice(0, 12)) {
      const percent = ((100 * ms) / totalMs).toFixed(1).padStart(5);
      console.log(
        `    ${percent} % ${ms.toFixed(2).padStart(8)} ms ${count.toFixed(0).padStart(4)}× ${name}`,
      );
    }
  }
}

function deviceOf(name: string): Setting['device'] {
  if (name === 'cpu' || name === 'webgpu' || name === 'cuda') return name;
  throw new RangeError(`--device: expected cpu, webgpu or cuda, got "${name}"`);
}
