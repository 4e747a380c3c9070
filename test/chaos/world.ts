import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import {
  cp,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';
import Database from 'libsql';
import { sha256 } from './films.js';
import { Random } from './random.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const SIDE = 16;
/** Debian's libfaketime: a clock for the whole process, its threads and native libraries included, that a file steps. */
const FAKETIME = ['x86_64-linux-gnu', 'aarch64-linux-gnu']
  .map((machine) => `/usr/lib/${machine}/faketime/libfaketimeMT.so.1`)
  .find((path) => existsSync(path));
/** How long a stage, or a write, may hang. */
const HANG_MS = 700;
/** How long all films that were sent may take until they are delivered. */
const PATIENCE_MS = 120_000;

export interface Account {
  readonly films: number;
  /** What is missing, and what is there twice, each with its film. */
  readonly lost: readonly string[];
  readonly double: readonly string[];
  /** Films that hung in a stage, and were put aside as they should be. */
  readonly hung: number;
  /** How often each deed was done. */
  readonly deeds: Readonly<Record<string, number>>;
}

/** An uncompressed BMP of 16×16 grey pixels: all are of one size, none has the bytes of another. */
function bmp(seed: number, index: number): Buffer {
  const head = 54 + 4 * 256;
  const bytes = Buffer.alloc(head + SIDE * SIDE);
  bytes.write('BM');
  bytes.writeUInt32LE(bytes.length, 2);
  bytes.writeUInt32LE(head, 10);
  for (const [at, value] of [
    [14, 40],
    [18, SIDE],
    [22, SIDE],
    [46, 256],
  ] as const)
    bytes.writeUInt32LE(value, at);
  bytes.writeUInt16LE(1, 26);
  bytes.writeUInt16LE(8, 28);
  for (let grey = 0; grey < 256; grey++) bytes.fill(grey, 54 + 4 * grey, 57 + 4 * grey);
  for (let i = 0; i < SIDE * SIDE; i++) bytes[head + i] = (i * 7 + index) & 255;
  bytes.writeUInt32LE(seed, head);
  bytes.writeUInt32LE(index, head + 4);
  return bytes;
}

/** A stage that hangs on some films: in a thread, or on the main thread, it never returns. */
const HANGING_STAGE = `
import { defineStage, z } from 'rxray';
export default defineStage({
  name: 'hang', summary: 'Hangs.', options: z.strictObject({ on: z.string() }),
  create: ({ on }) => ({
    process: (frame) => {
      if (!frame.origin.name.startsWith(on)) return frame;
      if (on === 'promise') return new Promise(() => {});
      for (;;);
    },
  }),
});
`;

/** A sink whose writes do not return while there is a file `hang`; what returned is in its file. */
const HANGING_SINK = `
import { existsSync, appendFileSync } from 'node:fs';
import { defineSink, z } from 'rxray';
export default defineSink({
  name: 'slow', summary: 'Hangs now and then.', options: z.strictObject({}),
  create: (_, { resolve }) => ({
    write: async (frames) => {
      while (existsSync(resolve('hang'))) await new Promise((go) => setTimeout(go, 50));
      for (const { origin } of frames) appendFileSync(resolve('out/slow.txt'), origin.sha256 + '\\n');
    },
  }),
});
`;

/**
 * A ward in which a running graph is treated badly: films renamed over others and replaced in place with the same size and
 * time, the inbox away for a moment, the state folder or the results put back from a backup, the CSV file edited while it
 * runs or is stopped, the database moved away, output pipes closed, the clock set back and forward, a sink and films that
 * hang, the process killed. What was sent is known here alone; at the end each film is in the CSV files exactly once, in
 * the databases, in what the hanging sink has written, and in the archive; one that hangs in a stage is in the dead letter.
 *
 * Does `rounds` deeds: number `first`, every `step`th after it, and random ones when all were done.
 */
export async function world(seed: number, rounds: number, first = 0, step = 1): Promise<Account> {
  const random = new Random(seed);
  const folder = await mkdtemp(join(tmpdir(), 'rxray-world-'));
  const at = (...parts: string[]): string => join(folder, ...parts);
  const onDone = (['keep', 'move', 'delete'] as const)[seed % 3]!;
  const sent = new Map<string, string>();
  /** Those that hang in a stage. */
  const hanging = new Set<string>();
  const deeds: Record<string, number> = {};
  let child = undefined as ChildProcess | undefined;
  const present = new Map<string, string>();

  await Promise.all(['inbox', 'tmp', 'out', 'done'].map((name) => mkdir(at(name))));
  await writeFile(at('hang.ts'), HANGING_STAGE);
  await writeFile(at('slow.ts'), HANGING_SINK);
  await writeFile(at('clock'), '+0\n');
  await writeFile(
    at('p.yaml'),
    `version: 1
sources:
  - use: watch
    with: { path: ./inbox, settleMs: 20, scanMs: 200, onDone: ${onDone}${onDone === 'move' ? ', moveTo: ./done' : ''} }
stages:
  - use: decode
  - { id: loop, use: ./hang.ts, with: { on: loop }, timeoutMs: ${String(HANG_MS)} }
  - { id: promise, use: ./hang.ts, with: { on: promise }, timeoutMs: ${String(HANG_MS)} }
sinks:
  - use: ./slow.ts
    timeoutMs: ${String(HANG_MS)}
  - use: csv
    with: { path: ./out/r.csv, columns: [file, id, { name: sha, value: origin.sha256 }] }
  - use: sqlite
    with: { path: ./out/r.db }
`,
  );

  const hasEnded = (): boolean => child?.exitCode !== null || child.signalCode !== null;
  const start = (): void => {
    child = spawn(process.execPath, [CLI, 'run', at('p.yaml')], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        NODE_OPTIONS: '',
        ...(FAKETIME !== undefined && fakeTime(FAKETIME, at('clock'))),
      },
    });
    child.stdout?.resume();
    child.stderr?.pipe(createWriteStream(at('log'), { flags: 'a' }));
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child === undefined || hasEnded()) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  };
  const filesIn = async (dir: string): Promise<string[]> =>
    (await readdir(at(dir), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
  /** The hash of each row of all CSV files. */
  const rows = async (): Promise<string[]> => {
    const files = (await filesIn('out')).filter((path) => /r[^/]*\.csv$/.test(path));
    const texts = await Promise.all(files.map((path) => readFile(path, 'utf8')));
    return texts.flatMap((text) =>
      parse(text, { record_delimiter: '\r\n', relax_column_count: true })
        .slice(1)
        .map((row) => row[2] ?? ''),
    );
  };
  /** The hashes of the films in the dead letter. */
  const putAside = async (): Promise<Set<string>> => {
    const kept = (await filesIn('.rxray/deadletter').catch((): string[] => [])).filter(
      (path) => !path.endsWith('.json'),
    );
    return new Set(await Promise.all(kept.map(async (path) => sha256(await readFile(path)))));
  };
  /** Until every film that was sent has its row. */
  const delivered = async (): Promise<boolean> => {
    const until = performance.now() + PATIENCE_MS;
    while (performance.now() < until) {
      const there = new Set(await rows().catch((): string[] => []));
      if ([...sent.keys()].every((sha) => there.has(sha) || hanging.has(sha))) return true;
      if (hasEnded()) start();
      await sleep(50);
    }
    return false;
  };
  const make = (name: string): Buffer => {
    const bytes = bmp(seed, sent.size);
    sent.set(sha256(bytes), name);
    present.set(name, sha256(bytes));
    return bytes;
  };
  /** As a modality does it: written elsewhere, with a time of its own, and renamed. */
  const send = async (name: string, time: number): Promise<void> => {
    await writeFile(at('tmp/film'), make(name));
    await utimes(at('tmp/film'), time, time);
    await rename(at('tmp/film'), at('inbox', name));
  };

  /** A remark in a row that is confirmed. */
  const edit = async (): Promise<void> => {
    const text = await readFile(at('out/r.csv'), 'utf8').catch(() => '');
    const at1 = text.indexOf('.bmp,');
    if (at1 > 0) await writeFile(at('out/r.csv'), `${text.slice(0, at1)} (seen)${text.slice(at1)}`);
  };

  const DEEDS: Readonly<Record<string, () => Promise<void>>> = {
    'a film is renamed over one that was taken': async () => {
      for (let i = 0; i < 5; i++) {
        await send('latest.bmp', 315_532_800);
        // The next one comes at the moment at which this one may be put away.
        const until = performance.now() + PATIENCE_MS;
        while (!(await rows().catch((): string[] => [])).includes(present.get('latest.bmp')!)) {
          if (hasEnded() || performance.now() > until) return;
          await sleep(1);
        }
      }
    },
    'a film is replaced in place, with the same size and time': async () => {
      const name = random.pick((await readdir(at('inbox'))).filter((each) => each.endsWith('.bmp')));
      if (!(await delivered())) return;
      const before = await stat(at('inbox', name)).catch(() => undefined);
      if (before === undefined) return;
      const handle = await open(at('inbox', name), 'r+').catch(() => undefined);
      await handle?.write(make(name));
      await handle?.utimes(before.atime, before.mtime);
      await handle?.close();
      // It may have been moved or deleted while it was written to.
      if (handle !== undefined && (await stat(at('inbox', name)).catch(() => undefined)) === undefined) {
        sent.delete(present.get(name) ?? '');
      }
    },
    'the inbox is away for a moment': async () => {
      await rename(at('inbox'), at('away'));
      await sleep(random.below(600));
      await rename(at('away'), at('inbox'));
    },
    'the state folder is put back from a backup': async () => {
      await delivered();
      await cp(at('.rxray'), at('backup'), { recursive: true, filter: (path) => !path.endsWith('.sock') });
      for (let i = 0; i < 4; i++) await send(`later-${String(sent.size)}.bmp`, Date.now() / 1000);
      await delivered();
      await end('SIGKILL');
      await rm(at('.rxray'), { recursive: true });
      await rename(at('backup'), at('.rxray'));
      start();
    },
    'the CSV file is edited in place': async () => {
      await delivered();
      await edit();
      await send(`after-${String(sent.size)}.bmp`, Date.now() / 1000);
      await delivered();
    },
    'the CSV file is edited between two runs': async () => {
      await delivered();
      await end(random.pick(['SIGTERM', 'SIGKILL'] as const));
      await edit();
      start();
      await send(`after-${String(sent.size)}.bmp`, Date.now() / 1000);
      await delivered();
    },
    'the results are put back from a backup': async () => {
      await delivered();
      const before = await readFile(at('out/r.csv')).catch(() => Buffer.alloc(0));
      await send(`later-${String(sent.size)}.bmp`, Date.now() / 1000);
      await delivered();
      await end('SIGTERM');
      const after = await readFile(at('out/r.csv')).catch(() => Buffer.alloc(0));
      if (before.length > 0 && after.subarray(0, before.length).equals(before)) {
        // The rows that the backup lacks are still somewhere.
        const lacking = [Buffer.from('file,id,sha\r\n'), after.subarray(before.length)];
        await writeFile(at(`out/r-${String(sent.size)}.csv`), Buffer.concat(lacking));
        await writeFile(at('out/r.csv'), before);
      }
      start();
    },
    'films hang in a stage': async () => {
      for (const stage of ['loop', 'promise']) {
        await send(`${stage}-${String(sent.size)}.bmp`, Date.now() / 1000);
        hanging.add([...sent.keys()].at(-1)!);
      }
      await send(`after-${String(sent.size)}.bmp`, Date.now() / 1000);
    },
    'a sink hangs': async () => {
      await writeFile(at('hang'), '');
      for (let i = 0; i < 4; i++) await send(`hang-${String(sent.size)}.bmp`, Date.now() / 1000);
      await delivered();
      if (random.below(2) === 1) {
        await end('SIGKILL');
        start();
      }
      await rm(at('hang'));
    },
    'the clock is set back or forward': async () => {
      if (FAKETIME === undefined) return;
      await writeFile(at('clock'), random.pick(['-3600\n', '+0\n', '+86400\n', '-400d\n', '+20y\n']));
      await send(`clock-${String(sent.size)}.bmp`, Date.now() / 1000);
    },
    'the database is moved away': async () => {
      await delivered();
      await rename(at('out/r.db'), at(`out/r-${String(sent.size)}.db`)).catch(() => undefined);
    },
    'its output is closed': async () => {
      child?.stderr?.destroy();
      if (random.below(2) === 1) child?.stdout?.destroy();
      await Promise.resolve();
    },
    'the process is killed': async () => {
      await end('SIGKILL');
      start();
    },
    'the pipeline is taken over': async () => {
      child?.kill('SIGHUP');
      await sleep(random.below(300));
    },
  };

  const lost: string[] = [];
  const double: string[] = [];
  try {
    start();
    for (let round = 0; round < rounds; round++) {
      for (let i = random.below(8); i >= 0; i--) {
        await send(`film-${String(sent.size)}.bmp`, Date.now() / 1000 - random.below(1000));
      }
      const all = Object.entries(DEEDS);
      const number = first + round * step;
      const [name, deed] = all[number < all.length ? number : random.below(all.length)]!;
      deeds[name] = (deeds[name] ?? 0) + 1;
      await deed();
      if (hasEnded()) start();
    }
    await delivered();
    const slow = async (): Promise<Set<string>> =>
      new Set((await readFile(at('out/slow.txt'), 'utf8').catch(() => '')).split('\n'));
    const settled = async (): Promise<boolean> => {
      const there = await slow();
      const letters = await putAside();
      return [...sent.keys()].every((sha) => (hanging.has(sha) ? letters : there).has(sha));
    };
    for (const until = performance.now() + PATIENCE_MS; performance.now() < until && !(await settled());) {
      if (hasEnded()) start();
      await sleep(100);
    }
    // What is done is put away after its row is written.
    await sleep(500);
    await end('SIGTERM');
    const found = await rows();
    const databases = (await filesIn('out')).filter((path) => path.endsWith('.db'));
    const ids = new Set(
      databases.flatMap((path) => {
        const database = new Database(path, { readonly: true });
        const files = database.prepare('SELECT file FROM films').all() as { file: string }[];
        database.close();
        return files.map(({ file }) => file);
      }),
    );
    const archived = new Set(
      await Promise.all((await filesIn('done')).map(async (path) => sha256(await readFile(path)))),
    );
    const left = new Set(
      await Promise.all((await filesIn('inbox')).map(async (path) => sha256(await readFile(path)))),
    );
    const log = await readFile(at('log'), 'utf8').catch(() => '');
    const [written, letters] = [await slow(), await putAside()];
    for (const [sha, name] of sent) {
      const count = found.filter((each) => each === sha).length;
      const film = `seed ${String(seed)} (${onDone}) ${name} ${sha.slice(0, 8)}`;
      if (hanging.has(sha)) {
        if (!letters.has(sha)) lost.push(`${film}: it hangs in a stage and is not in the dead letter`);
        if (count > 0) double.push(`${film}: it hangs in a stage and has a row`);
        continue;
      }
      if (!written.has(sha)) lost.push(`${film}: the sink that hung does not have it`);
      if (count === 0)
        lost.push(`${film}: no row${left.has(sha) ? ', it is in the inbox' : ''} ${log.slice(-300)}`);
      if (count > 1) double.push(`${film}: ${String(count)} rows`);
      if (count > 0 && ![...ids].some((file) => file.startsWith(name.replace('.bmp', ''))))
        lost.push(`${film}: in no database`);
      // What was replaced was destroyed by its sender.
      const isLast = present.get(name) === sha;
      if (onDone === 'move' && isLast && count > 0 && !archived.has(sha) && !left.has(sha))
        lost.push(`${film}: its file is gone`);
    }
  } finally {
    await end('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  }
  return { films: sent.size, lost, double, hung: hanging.size, deeds };
}

/** What makes a process take its time from the system's clock plus what stands in a file. */
function fakeTime(library: string, file: string): Record<string, string> {
  return {
    LD_PRELOAD: library,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    NO_FAKE_STAT: '1',
  };
}
