import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect } from 'chai';
import { parse } from 'csv-parse/sync';
import { build, type Plugin } from 'esbuild';
import fc from 'fast-check';
import type { DeadLetter } from '../../src/core/dead-letter.js';
import type { Frame } from '../../src/core/frame.js';
import { Ticket } from '../../src/core/flow/ticket.js';
import type { PluginOf, SinkInstance, SinkServices } from '../../src/core/plugin.js';
import { makeFrame } from '../../src/testing.js';
import type * as Disk from './faulty-disk.js';
import { Random } from './random.js';

/** What is tried, with the disk that it writes to. */
interface Tried {
  readonly disk: typeof Disk;
  readonly sinks: Readonly<Record<'csv' | 'jsonl' | 'folder', PluginOf<'sink'>>>;
  readonly DeadLetter: typeof DeadLetter;
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const DISK = fileURLToPath(new URL('./faulty-disk.ts', import.meta.url));
const TRIED = `
  export * as disk from '${DISK}';
  export { DeadLetter } from '${ROOT}src/core/dead-letter.ts';
  import csv from '${ROOT}src/sinks/csv.ts';
  import jsonl from '${ROOT}src/sinks/jsonl.ts';
  import folder from '${ROOT}src/sinks/folder.ts';
  export const sinks = { csv, jsonl, folder };
`;

/** `node:fs` is the faulty disk; there is one process, so a lock is always free. */
const onFaultyDisk: Plugin = {
  name: 'on-faulty-disk',
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /^node:fs(\/promises)?$/ }, ({ importer }) =>
      importer === DISK || importer.includes('node_modules') ? undefined : { path: DISK },
    );
    onLoad({ filter: /file-lock\.ts$/ }, () => ({
      contents: 'export const lockFile = async () => ({ release: async () => undefined });',
    }));
  },
};

/** A life of the machine: what goes wrong, and how many deeds on the disk after the fault before it. */
interface Life {
  readonly faults: readonly (readonly [number, Disk.Fault])[];
  readonly seed: number;
}

const lives = fc.array(
  fc.record({
    faults: fc.array(
      fc.tuple(fc.integer({ min: 1, max: 60 }), fc.constantFrom<Disk.Fault>('ENOSPC', 'EIO', 'stop')),
      { maxLength: 6 },
    ),
    seed: fc.nat(),
  }),
  { minLength: 1, maxLength: 5 },
);

describe('on a disk that tears writes, loses what was not synced, is full and fails', () => {
  let folder: string;
  let tried: Tried;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-faulty-disk-'));
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    const outfile = join(folder, 'tried.mjs');
    await build({
      stdin: { contents: TRIED, resolveDir: ROOT },
      outfile,
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20',
      external: ['sharp', 'libsql'],
      plugins: [onFaultyDisk],
      logLevel: 'error',
      banner: {
        js: "import { createRequire as $createRequire } from 'node:module'; const require = $createRequire(import.meta.url);",
      },
    });
    tried = (await import(pathToFileURL(outfile).href)) as Tried;
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('every film is in each sink exactly once, or in the dead letter', async () => {
    await fc.assert(
      fc.asyncProperty(
        lives,
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 4 }),
        async (...run) => {
          await tryOut(tried, ...run);
        },
      ),
      {
        numRuns: Number(process.env.FAULTY_DISK_RUNS ?? 150),
        // The commit fails and is on the disk all the same; its rows are half overwritten when the machine stops.
        examples: [2, 3, 4].map((gap): [Life[], number, number] => [
          [
            {
              faults: [
                [61, 'EIO'],
                [gap, 'stop'],
              ],
              seed: 0,
            },
          ],
          3,
          3,
        ]),
      },
    );
  });
});

async function tryOut(tried: Tried, lives: readonly Life[], films: number, groupSize: number): Promise<void> {
  const { disk } = tried;
  disk.format();
  const frames = Array.from({ length: films }, (_, i) => makeFrame({ name: `film-${i}.png`, image: null }));
  const isBad = (frame: Frame): boolean => frames.indexOf(frame) % 5 === 4;
  /** The journal: what it says is durable at once, but it may be told too late. */
  const done = new Set<Frame>();

  for (const { faults, seed } of [...lives, { faults: [], seed: 0 }]) {
    const random = new Random(seed);
    let deed = 0;
    const stop = disk.plan(new Map(faults.map(([gap, fault]) => [(deed += gap), fault])), () =>
      random.next(),
    );
    const work = workThrough(tried, frames, { isBad, done, groupSize, tells: () => random.chance(0.7) });
    await Promise.race([work, stop]);
    // What does not wait for the disk comes to its end.
    for (let turn = 0; turn < 5; turn += 1) await setImmediate();
    disk.restart();
  }

  const rows = parse<{ id: string }>(await disk.readFile('/lab/out/results.csv', 'utf8'), { columns: true });
  const lines = (await disk.readFile('/lab/out/results.jsonl', 'utf8')).toString().trimEnd().split('\n');
  const objects = lines.filter((line) => line !== '').map((line) => JSON.parse(line) as { id: string });
  const good = frames.filter((frame) => !isBad(frame)).map(({ id }) => id);
  expect(rows.map(({ id }) => id)).to.have.members(good, 'rows of the CSV');
  expect(objects.map(({ id }) => id)).to.have.members(good, 'lines of the JSONL');
  for (const id of good) {
    const text = await disk.readFile(`/lab/out/films/${id}.json`, 'utf8');
    expect(JSON.parse(text.toString()), 'the file of the film').to.include({ id });
  }
  const letters = (await disk.readdir('/lab/.rxray/deadletter').catch(() => [])).filter(
    (name) => !name.startsWith('.'),
  );
  expect(letters).to.have.members(
    frames.filter(isBad).map(({ id }) => id),
    'the dead letter',
  );
  for (const id of letters) {
    const reason = await disk.readFile(`/lab/.rxray/deadletter/${id}/reason.json`, 'utf8');
    expect(JSON.parse(reason.toString())).to.include({ id, code: 'FRAME_STAGE' });
    const { name } = frames.find((frame) => frame.id === id)!.origin;
    expect((await disk.readFile(`/lab/.rxray/deadletter/${id}/${name}`)).toString()).to.equal(`film ${id}`);
  }
}

interface Rules {
  readonly isBad: (frame: Frame) => boolean;
  readonly done: Set<Frame>;
  readonly groupSize: number;
  /** Whether the journal hears of it before the machine stops. */
  readonly tells: () => boolean;
}

/** What the host does in one life: delivers what is not done, tries again what was refused, gives up in between. */
async function workThrough(
  { sinks, DeadLetter, disk }: Tried,
  frames: readonly Frame[],
  { isBad, done, groupSize, tells }: Rules,
): Promise<void> {
  const again = async <T>(attempt: () => Promise<T>): Promise<T> => {
    for (let left = 8; ; left -= 1) {
      try {
        return await attempt();
      } catch (error) {
        if (left === 0) throw error;
      }
    }
  };
  // Made long ago: whether a new folder outlives a stop is a matter of its parent.
  await again(() => disk.mkdir('/lab/out/films', { recursive: true }));
  await again(() => disk.mkdir('/lab/.rxray/deadletter', { recursive: true }));
  for (const path of ['/', '/lab', '/lab/out', '/lab/.rxray']) {
    await again(async () => (await disk.open(path)).sync());
  }

  const services = {
    id: 'tried',
    log: { debug() {}, info() {}, warn() {}, error() {} },
    baseDir: '/lab',
    stateDir: '/lab/.rxray',
    signal: new AbortController().signal,
    again: false,
    columns: [],
    resolve: (path: string) => join('/lab', path),
  } as unknown as SinkServices;
  const open: SinkInstance[] = [];
  for (const [sink, settings] of [
    [sinks.csv, { path: 'out/results.csv' }],
    [sinks.jsonl, { path: 'out/results.jsonl' }],
    [sinks.folder, { path: 'out/films', picture: false }],
  ] as const) {
    open.push(await again(async () => sink.create(sink.options.parse(settings) as never, services)));
  }
  const pool = {
    read: async ({ name }: { name: string }) => {
      const { id } = frames.find(({ origin }) => origin.name === name)!;
      return { encoded: Buffer.from(`film ${id}`), sha256: id };
    },
  };
  const deadLetter = new DeadLetter('/lab/.rxray', 'graph', pool as never);

  const left = frames.filter((frame) => !done.has(frame));
  for (let at = 0; at < left.length; at += groupSize) {
    const group = left.slice(at, at + groupSize);
    const good = group.filter((frame) => !isBad(frame));
    for (const sink of open) {
      if (good.length === 0) continue;
      await sink.write(good).catch(async () => {
        for (const frame of good) await again(() => sink.write([frame]));
      });
    }
    for (const frame of group.filter(isBad)) {
      const origin = { ...frame.origin, sha256: frame.id };
      const ticket = new Ticket(frame.id, origin, origin, { release: () => undefined });
      const failure = { code: 'FRAME_STAGE', component: 'decode', message: 'bad' } as const;
      await again(() => deadLetter.keep(ticket, failure));
    }
    for (const frame of group) if (tells()) done.add(frame);
  }
  for (const sink of open) await again(async () => sink.dispose?.());
}
