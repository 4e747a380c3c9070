import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

const PRELOAD = new URL('./preload.mjs', import.meta.url).href;

/** When the program is to be killed. */
export type Doom =
  /** The `nth` time that it comes to a moment of a durable step (`csv.append before`). */
  | { readonly moment: string; readonly nth: number }
  /** Some milliseconds after it was started. */
  | { readonly afterMs: number }
  /**
   * Some milliseconds after so many films have settled; 0: after the first film was opened. SIGINT asks it to
   * finish what is in flight.
   */
  | { readonly films: number; readonly afterMs: number; readonly signal?: 'SIGINT' };

/** What is known of a life of the program when it is over. */
export interface Life {
  /** The moment of a durable step at which it died. */
  readonly diedAt: string | undefined;
  /** Whether it had opened films that had not settled, or died at a step that is taken for a film. */
  readonly inFlight: boolean;
  /** The moments that it came by. */
  readonly moments: ReadonlySet<string>;
  readonly settled: ReadonlySet<string>;
  /** The exit code; null when it was killed. */
  readonly code: number | null;
  readonly stderr: string;
}

/** Steps that are taken when there is no film: files are opened and made, the journal is brought up to date. */
const OPENING = /\.(cut|create) |^journal\.commit /;
/** A program that has not come to its moment within so many films is killed as it is. */
const PATIENCE = 40;
/** Nor within such a silence: nothing is left to do that could bring it there. The first one is its start. */
const SILENCE_MS = { start: 60_000, later: 4_000 };
/** Nor may it hang: a life without a kill that takes longer is a fault. */
const LONGEST_MS = 240_000;

/** What a life is led in. */
interface Surroundings {
  /** The command that runs it: `prlimit --nofile=64`, say. */
  readonly under?: readonly string[];
  /** Modules to load first, in every thread. */
  readonly preload?: readonly string[];
}

/**
 * Runs the program on a folder with a `pipeline.yaml` and an `inbox`, in a process of its own, and kills it
 * (SIGKILL) as `doom` says. Without one it runs to its end, by itself.
 */
export async function live(
  main: string,
  folder: string,
  doom: Doom | undefined,
  { under = [], preload = [] }: Surroundings = {},
): Promise<Life> {
  const dieAt = doom !== undefined && 'moment' in doom ? `${doom.moment}#${doom.nth}` : '';
  const [command = '', ...args] = [
    ...[...under, process.execPath],
    ...[PRELOAD, ...preload].flatMap((module) => ['--import', module]),
    ...[main, 'run', join(folder, 'pipeline.yaml'), '--json'],
    ...(doom === undefined ? ['--once'] : []),
  ];
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '', CHAOS_INBOX: join(folder, 'inbox/'), CHAOS_DIE_AT: dieAt },
  });
  const [, stdout, errors, steps] = child.stdio;
  if (!(stdout && errors && steps instanceof Readable)) throw new Error('the program has no output');
  const ended = once(child, 'close');
  const over = new AbortController();
  const killAfter = (ms: number, signal: NodeJS.Signals = 'SIGKILL', note = ''): void => {
    sleep(ms, undefined, { signal: over.signal }).then(
      () => {
        stderr += note;
        child.kill(signal);
      },
      () => undefined,
    );
  };
  const open = new Set<string>();
  const settled = new Set<string>();
  const moments = new Set<string>();
  let diedAt: string | undefined;
  let stderr = '';
  let doomed = false;
  let silence: NodeJS.Timeout | undefined;
  const waitFor = (ms: number): void => {
    clearTimeout(silence);
    if (doom !== undefined) silence = setTimeout(() => child.kill('SIGKILL'), ms);
  };
  waitFor(SILENCE_MS.start);
  /** Called at every sign of life. */
  const look = (): void => {
    waitFor(SILENCE_MS.later);
    if (doom === undefined || doomed) return;
    const due = 'moment' in doom ? { films: PATIENCE, afterMs: 0 } : 'films' in doom ? doom : undefined;
    if (due === undefined || settled.size < due.films || open.size === 0) return;
    doomed = true;
    killAfter(due.afterMs, 'signal' in due ? due.signal : undefined);
  };
  errors.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const lines = (stream: Readable, take: (line: string) => void): Promise<unknown> =>
    once(
      createInterface(stream).on('line', (line) => {
        take(line);
        look();
      }),
      'close',
    );
  const read = Promise.all([
    lines(stdout, (line) => {
      const { event, file } = JSON.parse(line) as { event: string; file: string };
      if (event === 'film') settled.add(file);
    }),
    lines(steps, (line) => {
      const space = line.indexOf(' ');
      const [what, of] = [line.slice(0, space), line.slice(space + 1)];
      if (what === 'step') moments.add(of);
      else if (what === 'dies') diedAt = of;
      else open.add(of);
    }),
  ]);
  if (doom !== undefined && !('moment' in doom) && !('films' in doom)) killAfter(doom.afterMs);
  killAfter(LONGEST_MS, 'SIGKILL', `\nkilled after ${LONGEST_MS / 1000} s: it hung`);

  const [code] = (await ended) as [number | null];
  await read;
  clearTimeout(silence);
  over.abort();
  return {
    diedAt,
    inFlight: [...open].some((name) => !settled.has(name)) || (diedAt !== undefined && !OPENING.test(diedAt)),
    moments,
    settled,
    code,
    stderr,
  };
}
