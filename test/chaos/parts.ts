import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { partLabel } from '../../src/core/part.js';
import { Lab, type Running } from '../support/lab.js';
import { makeFilm } from './films.js';
import { Random } from './random.js';

const GRAPH = `
version: 1
threads: 1
sources:
  - use: manifest
    with: { path: ./films.csv }
stages:
  - use: decode
  - use: ./mean.mjs
sinks:
  - use: csv
    with: { path: ./out/results.csv, columns: [file, id, meta.mean] }
`;
const HEADER = 'file,id,meta.mean';

/** A result that depends on the pixels; slow, so that there is time to kill a part while it is at work. */
const STAGE = `
import { defineStage, z } from 'rxray';
export default defineStage({
  name: 'mean', summary: 'Averages.', options: z.strictObject({}),
  create: () => ({
    async process(frame) {
      await new Promise((done) => setTimeout(done, 20));
      const mean = frame.image.data.reduce((sum, value) => sum + value, 0) / frame.image.data.length;
      return { ...frame, meta: { ...frame.meta, mean } };
    },
  }),
});
`;

export interface PartsPlan {
  readonly films: number;
  readonly parts: number;
  /** Number of parts that are killed, each once. */
  readonly kills: number;
  /** Number of parts at a time. */
  readonly jobs: number;
  readonly seed: number;
  readonly tell?: (line: string) => void;
}

export interface PartsReport {
  /** Parts that were killed, by what they had written; half of them have lost their journal, too. */
  readonly killed: { readonly nothing: number; readonly some: number; readonly all: number };
  readonly journalsLost: number;
  /** Rows of the undisturbed run's output. */
  readonly rows: number;
  /** Rows that the joined output does not have, and rows that it has too many. */
  readonly lost: number;
  readonly double: number;
  /** Films in the dead letters; whether they are those of the undisturbed run. */
  readonly failed: number;
  readonly sameFailed: boolean;
  /** Of parts that did not end with 0, or with 1 (films failed). */
  readonly complaints: readonly string[];
}

/**
 * Runs a list of films in one run, undisturbed, and in parts, of which some are killed (SIGKILL) at random moments before
 * they have an output, and repeated; compares the outputs. Every 43rd film is unreadable.
 */
export async function partsTrial(plan: PartsPlan): Promise<PartsReport> {
  const { films, parts, kills, jobs, seed, tell = () => undefined } = plan;
  const random = new Random(seed);
  const made = Array.from({ length: films }, (_, i) => makeFilm(seed, i));
  const list = `path\n${made.map(({ name }) => name).join('\n')}\n`;
  const lab = await Lab.open(GRAPH, {
    'films.csv': list,
    'mean.mjs': STAGE,
    ...Object.fromEntries(made.map(({ name, bytes }) => [name, bytes])),
  });
  const killed = { nothing: 0, some: 0, all: 0 };
  const complaints: string[] = [];
  let [journalsLost, done] = [0, 0];

  const start = (index: number): Running =>
    lab.start(['--once', '--part', `${String(index)}/${String(parts)}`]);
  const finish = async (what: string, running: Running): Promise<void> => {
    const { code, stderr } = await running.ended();
    if (code !== 0 && code !== 1) complaints.push(`${what} ended with ${String(code)}: ${stderr}`);
  };
  /** Kills a part before it has its output; one that was faster begins anew. */
  const disturb = async (index: number): Promise<void> => {
    const name = partLabel({ index, count: parts });
    const [state, output] = [lab.path(`.rxray/parts/${name}`), lab.path(`out/results-${name}.csv`)];
    const written = async (): Promise<number> => (await linesOf(`${state}/output/csv.csv`)).length;
    const most = Math.floor(films / parts);
    for (;;) {
      const running = start(index);
      const wanted = random.below(most + 1);
      const until = async (): Promise<boolean> => existsSync(state) && (await written()) >= wanted;
      // Or its end.
      await running.until(until, 5).catch(() => undefined);
      await setTimeout(random.below(50));
      await running.kill();
      const { code } = await running.ended();
      if (code === null && !existsSync(output)) break;
      await rm(state, { recursive: true, force: true });
      await rm(output, { force: true });
    }
    const rows = await written();
    killed[rows === 0 ? 'nothing' : rows < most ? 'some' : 'all'] += 1;
    if (random.chance(0.5)) {
      journalsLost += 1;
      await rm(state, { recursive: true, force: true });
    }
  };
  try {
    await finish('the undisturbed run', lab.start(['--once']));
    const order = Array.from({ length: parts }, (_, index) => index);
    for (let i = parts - 1; i > 0; i -= 1) {
      const j = random.below(i + 1);
      [order[i], order[j]] = [order[j] ?? 0, order[i] ?? 0];
    }
    const queue = order.entries();
    await Promise.all(
      Array.from({ length: jobs }, async () => {
        for (const [place, index] of queue) {
          if (place < kills) await disturb(index);
          await finish(`part ${String(index)}`, start(index));
          done += 1;
          if (done % 20 === 0) tell(`${String(done)} of ${String(parts)} parts`);
        }
      }),
    );
    const again = await start(0).ended();
    if (!again.stderr.includes('already done'))
      complaints.push(`a complete part was repeated: ${again.stderr}`);
    const names = Array.from({ length: parts }, (_, index) => partLabel({ index, count: parts }));
    const joined = (
      await Promise.all(names.map((name) => linesOf(lab.path(`out/results-${name}.csv`))))
    ).flat();
    const whole = await linesOf(lab.path('out/results.csv'));
    const states = names.map((name) => `.rxray/parts/${name}`);
    const failed = await failedIn(lab, ['.rxray']);
    return {
      ...{ killed, journalsLost, rows: whole.length, complaints },
      lost: surplus(whole, joined),
      double: surplus(joined, whole),
      failed: failed.length,
      sameFailed: (await failedIn(lab, states)).join() === failed.join(),
    };
  } finally {
    await lab.close();
  }
}

/** Without the header; none without a file. */
async function linesOf(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const [header, ...lines] = text.split('\r\n');
  return header === HEADER ? lines.filter((line) => line !== '') : [];
}

/** How many of `lines` have no equal of their own in `others`. */
function surplus(lines: readonly string[], others: readonly string[]): number {
  const counts = new Map<string, number>();
  for (const line of others) counts.set(line, (counts.get(line) ?? 0) + 1);
  return lines.filter((line) => {
    const left = counts.get(line) ?? 0;
    counts.set(line, left - 1);
    return left <= 0;
  }).length;
}

/** The ids of films in the dead letters of these states, sorted. */
async function failedIn(lab: Lab, states: readonly string[]): Promise<string[]> {
  const found = states.map((state) => readdir(lab.path(`${state}/deadletter`)).catch((): string[] => []));
  return (await Promise.all(found)).flat().sort();
}
