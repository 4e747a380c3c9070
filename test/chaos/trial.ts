import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { listEntries, requestReplay } from '../../src/core/dead-letter-entries.js';
import { check, type Truth, type Verdict } from './checker.js';
import { makeFilm, sha256, type Film } from './films.js';
import { live, type Life, type Doom } from './life.js';
import { Random } from './random.js';
import { Receiver } from './receiver.js';

/** Films in flight at most. */
const IN_FLIGHT = 24;
/** So many must wait for a life to begin: a kill is to hit while there is work. */
const ENOUGH = 30;

interface Variant {
  readonly onDone: Truth['onDone'];
  /** The sinks beside the webhook, with their options. */
  readonly sinks: Readonly<Partial<Record<Truth['sinks'][number], object>>>;
}

const VARIANTS: readonly [Variant, ...Variant[]] = [
  { onDone: 'keep', sinks: { csv: { path: './out/films.csv' } } },
  {
    onDone: 'delete',
    sinks: { csv: { path: './out/films.csv', columns: ['file'] }, jsonl: { path: './out/films.jsonl' } },
  },
  {
    onDone: 'move',
    sinks: {
      csv: { path: './out/films.csv', bom: true, rotate: { bytes: 5000 } },
      sqlite: { path: './out/films.db' },
      folder: { path: './out/films', picture: false },
    },
  },
];

/** Which of the graphs a trial takes. */
export const variantOf = (number: number): number => number % VARIANTS.length;

/** A folder with a graph, films for its inbox, and the receiver of its webhook. */
export class Ward {
  /** Films that are through, or nearly: the receiver has answered, or the program has said so. */
  readonly #through = new Set<string>();
  #dropped = 0;

  private constructor(
    readonly folder: string,
    readonly films: readonly Film[],
    readonly receiver: Receiver,
    private readonly variant: Variant,
  ) {}

  /** `number` chooses the graph, the films, and the moods of the receiver; `limits` are those of the graph. */
  static async open(
    number: number,
    films: number,
    { parent = tmpdir(), limits = {} }: { parent?: string; limits?: object } = {},
  ): Promise<Ward> {
    const folder = await mkdtemp(join(parent, 'rxray-chaos-'));
    const variant = VARIANTS[variantOf(number)] ?? VARIANTS[0];
    const receiver = await Receiver.listen(new Random(number));
    await writeFile(join(folder, 'pipeline.yaml'), graph(variant, receiver.url, limits));
    for (const part of ['inbox', 'out', '.arriving']) await mkdir(join(folder, part));
    const all = Array.from({ length: films }, (_, index) => makeFilm(number, index));
    return new Ward(folder, all, receiver, variant);
  }

  /** Puts films into the inbox until there were so many, as a careful sender does: whole, by renaming them. */
  async drop(upTo: number): Promise<void> {
    const wave = this.films.slice(this.#dropped, upTo);
    this.#dropped += wave.length;
    for (const { name, bytes } of wave) {
      const part = join(this.folder, '.arriving', name.replaceAll('/', '-'));
      const path = join(this.folder, 'inbox', name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(part, bytes);
      await rename(part, path);
    }
  }

  note(life: Life): void {
    for (const name of life.settled) this.#through.add(name);
  }

  get through(): number {
    for (const { file, status } of this.receiver.received) {
      if (status !== 0 && status < 429) this.#through.add(file);
    }
    return this.#through.size;
  }

  /** Lets the program work to its end on all films, and accounts for them. */
  async finish(program: string): Promise<Verdict> {
    await this.drop(this.films.length);
    this.receiver.calmDown();
    await this.#workToEnd(program);
    // A SIGKILL cannot be told from a film that ends the process: whoever kills at random replays what was put aside.
    const stateDir = join(this.folder, '.rxray');
    const crashed = (await listEntries(stateDir)).filter(({ code }) => code === 'FRAME_CRASH');
    for (const { id } of crashed) await requestReplay(stateDir, id);
    if (crashed.length > 0) await this.#workToEnd(program);
    const truth: Truth = {
      films: this.films.map(({ name, fate, bytes }) => ({ name, fate, sha256: sha256(bytes) })),
      received: this.receiver.received,
      sinks: Object.keys(this.variant.sinks) as Truth['sinks'],
      onDone: this.variant.onDone,
    };
    await writeFile(join(this.folder, 'truth.json'), JSON.stringify(truth));
    return check(this.folder);
  }

  async #workToEnd(program: string): Promise<void> {
    const { code, stderr } = await live(program, this.folder, undefined);
    if (code !== 0 && code !== 1) {
      throw new Error(`the program did not come to its end (${code ?? 'killed'}): ${stderr}`);
    }
  }

  async close(keep = false): Promise<void> {
    await this.receiver.close();
    if (!keep) await rm(this.folder, { recursive: true, force: true });
  }
}

export interface TrialOptions {
  readonly number: number;
  readonly films: number;
  /** The main file of the program. */
  readonly program: string;
  /** When the next life is to end; undefined: no more kills. `fresh`: no film is through yet. */
  readonly nextDoom: (fresh: boolean) => Doom | undefined;
  readonly onDeath: (life: Life) => void;
  /** Whether the folder of a trial that went wrong stays to be looked at. */
  readonly keep: boolean;
}

/**
 * One ward, from its first film to its last: the program is started, killed and started again until almost
 * all films are through; then it may work to its end, and the checker accounts for every film.
 */
export async function runTrial(options: TrialOptions): Promise<Verdict> {
  const { number, films, program, nextDoom, onDeath, keep } = options;
  const ward = await Ward.open(number, films);
  let wrong = true;
  try {
    const early = Math.floor(films * 0.7);
    await ward.drop(early);
    while (films - ward.through > ENOUGH) {
      const doom = nextDoom(ward.through === 0);
      if (doom === undefined) break;
      const arriving = ward.drop(Math.floor(early + ward.through / 2));
      const life = await live(program, ward.folder, doom);
      await arriving;
      ward.note(life);
      if (life.code !== null) throw new Error(`the program ended by itself (${life.code}): ${life.stderr}`);
      onDeath(life);
    }
    const verdict = await ward.finish(program);
    wrong = verdict.lost.length + verdict.double.length > 0;
    return verdict;
  } catch (error) {
    throw new Error(`trial ${number}, in ${ward.folder}`, { cause: error });
  } finally {
    await ward.close(keep && wrong);
  }
}

function graph({ onDone, sinks }: Variant, url: string, limits: object): string {
  const moveTo = onDone === 'move' ? { moveTo: './done' } : {};
  return JSON.stringify({
    version: 1,
    limits: { frames: IN_FLIGHT, ...limits },
    sources: [{ use: 'watch', with: { path: './inbox', settleMs: 20, scanMs: 300, onDone, ...moveTo } }],
    stages: [{ use: 'decode' }],
    sinks: [
      ...Object.entries(sinks).map(([use, options]) => ({ use, with: options })),
      {
        use: 'webhook',
        retry: { attempts: 100, backoffMs: 10, maxBackoffMs: 100 },
        with: { url, includeFile: true, timeoutMs: 400 },
      },
    ],
  });
}
