import type { Verdict } from './checker.js';
import { type Doom, type Life } from './life.js';
import { Random } from './random.js';
import { runTrial, variantOf } from './trial.js';

export interface Suspicion {
  /** The number of the only trial. */
  readonly trial: number;
  /** The moment at which to kill. */
  readonly moment: string;
}

export interface ChaosOptions {
  /** The main file of the program. */
  readonly program: string;
  /** At least so many kills, … */
  readonly kills: number;
  /** … so many films, … */
  readonly films: number;
  /** … and so many hits at every moment of a durable step. */
  readonly hits: number;
  /** But no new life after so many seconds. */
  readonly seconds: number;
  readonly filmsPerTrial: number;
  /** After so many kills a trial works to its end. */
  readonly killsPerTrial?: number;
  /** Trials at the same time. */
  readonly abreast: number;
  /** For a fault that is looked for: where it shows, as a rule. The run ends with the first film that is lost or double. */
  readonly suspicion?: Suspicion;
  readonly onTrial?: (tally: Tally) => void;
}

/** What happened so far. */
export interface Tally {
  files: number;
  readonly lost: string[];
  readonly double: string[];
  kills: number;
  /** Kills that hit while films were open, … */
  inFlight: number;
  /** … and kills at steps of the opening of sinks and journal, when none can be. */
  opening: number;
  /** How often it was killed at each moment of a durable step. */
  readonly hits: Map<string, number>;
}

/** Runs trials until there were enough kills, films and hits, or the time is over. */
export async function chaos(options: ChaosOptions): Promise<Tally> {
  const tally: Tally = { files: 0, lost: [], double: [], kills: 0, inFlight: 0, opening: 0, hits: new Map() };
  const random = new Random(1);
  const start = performance.now();
  let trials = 0;

  const timeLeft = (): boolean => (performance.now() - start) / 1000 < options.seconds;
  const rare = (): string[] =>
    [...tally.hits].filter(([, hits]) => hits < options.hits).map(([moment]) => moment);
  const enough = (): boolean =>
    tally.kills >= options.kills && tally.files >= options.films && rare().length === 0;
  /** The moments that lives with the same graph came by. */
  const known = new Map<number, Set<string>>();
  const { suspicion } = options;
  const found = (): boolean => suspicion !== undefined && tally.lost.length + tally.double.length > 0;
  let broken = false;
  const over = (): boolean => broken || !timeLeft() || enough();

  function nextDoom(fresh: boolean, possible: ReadonlySet<string>): Doom | undefined {
    if (over()) return undefined;
    if (suspicion !== undefined) return { moment: suspicion.moment, nth: 1 + random.below(3) };
    // Files are made by the first lives of a trial, each once; later only by rotation.
    const making = (moment: string): boolean => moment.includes('.create ');
    const seldom = rare().filter((moment) => possible.has(moment) && making(moment) === fresh);
    if (fresh && seldom.length > 0) return { moment: random.pick(seldom), nth: 1 };
    if (possible.size === 0 || random.chance(0.3)) {
      return random.chance(0.05)
        ? { afterMs: random.below(1000) }
        : { films: random.below(24), afterMs: random.below(20) };
    }
    const moment = random.pick(seldom.length > 0 && random.chance(0.8) ? seldom : [...possible]);
    return { moment, nth: random.chance(0.5) ? 1 : 1 + random.below(6) };
  }

  /** The next trial; those whose graph has no rare moment are passed over. */
  function nextTrial(): number {
    const number = trials++;
    const possible = known.get(variantOf(number));
    const seldom = rare();
    const isWorth =
      possible === undefined || seldom.length === 0 || seldom.some((each) => possible.has(each));
    return isWorth ? number : nextTrial();
  }

  function onDeath({ moments, diedAt, inFlight }: Life, possible: Set<string>): void {
    tally.kills += 1;
    if (inFlight) tally.inFlight += 1;
    else if (diedAt !== undefined) tally.opening += 1;
    for (const moment of moments) {
      possible.add(moment);
      if (!tally.hits.has(moment)) tally.hits.set(moment, 0);
    }
    if (diedAt !== undefined) tally.hits.set(diedAt, (tally.hits.get(diedAt) ?? 0) + 1);
  }

  async function lane(): Promise<void> {
    while (!over() && !found()) {
      const number = suspicion?.trial ?? nextTrial();
      const possible = known.get(variantOf(number)) ?? new Set();
      known.set(variantOf(number), possible);
      let kills = 0;
      const verdict: Verdict = await runTrial({
        number,
        films: options.filmsPerTrial,
        program: options.program,
        nextDoom: (fresh) =>
          kills < (options.killsPerTrial ?? Infinity) ? nextDoom(fresh, possible) : undefined,
        onDeath: (life) => {
          kills += 1;
          onDeath(life, possible);
        },
        keep: suspicion === undefined,
      }).catch((error: unknown) => {
        broken = true;
        throw error;
      });
      tally.files += verdict.files;
      tally.lost.push(...verdict.lost);
      tally.double.push(...verdict.double);
      options.onTrial?.(tally);
    }
  }

  // The other lanes end before the first one's error is thrown: nobody else would close their receivers.
  const lanes = await Promise.allSettled(Array.from({ length: options.abreast }, lane));
  for (const each of lanes) if (each.status === 'rejected') throw each.reason;
  return tally;
}

export const lastLine = ({ files, lost, double, kills }: Tally): string =>
  `${files} files, ${lost.length} lost, ${double.length} double, ${kills} kills`;
