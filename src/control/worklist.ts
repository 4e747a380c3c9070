import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Subscription } from 'rxjs';
import { isImage, withoutImages } from '../core/frame.js';
import type { Span } from '../core/flow/settled.js';
import type { Monitor } from '../core/monitor/monitor.js';
import type { Log } from '../core/plugin.js';
import type { Settled } from '../core/flow/settled.js';
import type { Review } from '../core/reviews.js';
import { verdictOf, type Verdict } from '../core/verdict.js';

/** A row of the worklist: a film's outcome and results, without pixels. */
export interface Row {
  readonly id: string;
  readonly source: string;
  /** The path inside the source. */
  readonly file: string;
  readonly outcome: Settled['outcome'];
  readonly receivedAt: string;
  readonly settledAt: string;
  readonly meta: Readonly<Record<string, unknown>>;
  /** By stage id. */
  readonly results: Readonly<Record<string, unknown>>;
  readonly failure: { readonly code: string; readonly stage: string | null; readonly message: string } | null;
  /** Whether it is suspicious, and by which stage. */
  readonly verdict: Verdict;
}

/** A row with the details for the film's own page. The file's path is never sent to clients. */
export interface WorklistFilm extends Row {
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
  readonly sha256: string;
  /** The hash of the graph that processed it. */
  readonly graph: string;
  readonly timings: readonly Span[];
  /** The images in its results: residual maps, reconstructions. */
  readonly images: readonly { readonly stage: string; readonly field: string }[];
}

/** `review`: films most worth reviewing first. */
export const SORTS = ['newest', 'oldest', 'suspicious', 'file', 'review'] as const;
export type Sort = (typeof SORTS)[number];

export interface Query {
  readonly sort: Sort;
  readonly outcome?: Settled['outcome'] | undefined;
  /** `true`: only films that a person has reviewed; `false`: only the others. */
  readonly reviewed?: boolean | undefined;
  /** A label that a classifier gave. */
  readonly label?: string | undefined;
  /** `true`: only films that a stage calls abnormal. */
  readonly suspicious?: boolean | undefined;
  /** The id of a film: only films of the same patient, see {@link patientOf}. */
  readonly patient?: string | undefined;
  /** Part of the file's name or the start of an id; case is ignored. */
  readonly text?: string | undefined;
  readonly offset: number;
  readonly limit: number;
}

/** Maximum number of films. */
export const WORKLIST_ROWS = 10_000;
/** A row has about one kilobyte, so that one file soon holds enough rows. */
const FILE_BYTES = 16 * 1024 ** 2;

/**
 * The last films with their results, for the page. Written as JSON lines beside the journal when films settle, and read
 * on the first request. It survives a restart; after a crash the last rows may be missing. Deliveries do not depend on
 * it.
 */
export class Worklist {
  readonly #path: string;
  readonly #older: string;
  #out: WriteStream | undefined;
  #written = 0;
  #turning: Promise<void> | undefined;
  /** By id, oldest first; undefined before the first request. */
  #films: Promise<Map<string, WorklistFilm>> | undefined;
  readonly #subscription: Subscription;

  constructor(
    stateDir: string,
    monitor: Monitor,
    private readonly log: Log,
  ) {
    this.#path = join(stateDir, 'worklist.jsonl');
    this.#older = join(stateDir, 'worklist.older.jsonl');
    this.#subscription = monitor.settled$.subscribe((settled) => this.#add(filmOf(settled)));
  }

  /**
   * The matching rows of the page, and the number of all matching rows.
   *
   * @param failures The ids in the dead letter: a failed film that was discarded does not match `failed`.
   */
  async find(
    query: Query,
    reviews: ReadonlyMap<string, Review> = new Map(),
    failures?: ReadonlySet<string>,
  ): Promise<{ total: number; films: WorklistFilm[] }> {
    const { sort, outcome, suspicious, reviewed, label, patient, text, offset, limit } = query;
    const wanted = text?.toLowerCase();
    const known = await this.#load();
    const of = patient === undefined ? undefined : known.get(patient);
    const same = of === undefined ? undefined : patientOf(of)?.value;
    const films = [...known.values()].filter(
      (film) =>
        (patient === undefined || (same !== undefined && patientOf(film)?.value === same)) &&
        (outcome === undefined || film.outcome === outcome) &&
        (outcome !== 'failed' || failures?.has(film.id) !== false) &&
        (label === undefined || labelsOf(film).includes(label)) &&
        (reviewed === undefined || reviews.has(film.id) === reviewed) &&
        (suspicious === undefined || (film.verdict.abnormal === true) === suspicious) &&
        (wanted === undefined || film.file.toLowerCase().includes(wanted) || film.id.startsWith(wanted)),
    );
    if (sort !== 'oldest') films.reverse();
    if (sort === 'suspicious') films.sort((a, b) => rankOf(b) - rankOf(a));
    if (sort === 'file') films.sort((a, b) => (a.file < b.file ? -1 : 1));
    if (sort === 'review') films.sort((a, b) => worthOf(b, reviews) - worthOf(a, reviews));
    return { total: films.length, films: films.slice(offset, offset + limit) };
  }

  async get(id: string): Promise<WorklistFilm | undefined> {
    return (await this.#load()).get(id);
  }

  /** All of them, oldest first. */
  async all(): Promise<WorklistFilm[]> {
    return [...(await this.#load()).values()];
  }

  async close(): Promise<void> {
    this.#subscription.unsubscribe();
    await this.#turning;
    const out = this.#out;
    if (out === undefined || out.destroyed) return;
    await new Promise<void>((resolve) => out.end(resolve));
  }

  #add(film: WorklistFilm): void {
    const line = `${JSON.stringify(film)}\n`;
    const out = (this.#out ??= this.#open());
    // One write for the films of one turn of the event loop.
    if (out.writableCorked === 0) {
      out.cork();
      setImmediate(() => out.uncork());
    }
    out.write(line);
    this.#written += line.length;
    if (this.#written > FILE_BYTES && this.#turning === undefined) this.#turnOver();
    void this.#films?.then((films) => keep(films, film));
  }

  #open(): WriteStream {
    const out = createWriteStream(this.#path, { flags: 'a', mode: 0o600 });
    out.on('error', (error) =>
      this.log.warn({}, `the worklist ${this.#path} cannot be written: ${error.message}`),
    );
    // An earlier process may have left an incomplete line.
    out.write('\n');
    // Includes the rows of earlier processes.
    void stat(this.#path).then(
      ({ size }) => (this.#written += size),
      () => undefined,
    );
    return out;
  }

  /** The file is full: it becomes the older file, and the previous older file is deleted. */
  #turnOver(): void {
    const full = this.#out;
    this.#written = 0;
    // Not before the file exists. An open handle continues to write to the renamed file.
    this.#turning = new Promise<unknown>((resolve) => full?.write('', resolve))
      .then(() => rename(this.#path, this.#older))
      .then(
        () => {
          this.#out = undefined;
          full?.end();
        },
        (error: unknown) =>
          this.log.warn({}, `the worklist ${this.#path} cannot be set aside: ${String(error)}`),
      )
      .finally(() => (this.#turning = undefined));
  }

  #load(): Promise<Map<string, WorklistFilm>> {
    this.#films ??= this.#read();
    return this.#films;
  }

  async #read(): Promise<Map<string, WorklistFilm>> {
    const films = new Map<string, WorklistFilm>();
    await new Promise<void>((resolve) => {
      if (this.#out === undefined) resolve();
      else this.#out.write('', () => resolve());
    });
    for (const path of [this.#older, this.#path]) {
      if ((await stat(path).catch(() => null)) === null) continue;
      for await (const line of createInterface({ input: createReadStream(path) })) {
        const film = parsed(line);
        if (film !== null) keep(films, film);
      }
    }
    return films;
  }
}

/** Adds the film at the end; a film that was processed again occurs once. */
function keep(films: Map<string, WorklistFilm>, film: WorklistFilm): void {
  films.delete(film.id);
  films.set(film.id, film);
  const [oldest] = films.keys();
  if (films.size > WORKLIST_ROWS && oldest !== undefined) films.delete(oldest);
}

/** After a crash, or on a bad disk, a line may be incomplete or anything else. */
function parsed(line: string): WorklistFilm | null {
  try {
    const film = JSON.parse(line) as Partial<WorklistFilm>;
    const { id, file, results } = film;
    if (typeof id !== 'string' || typeof file !== 'string' || typeof results !== 'object') return null;
    // Lines of earlier versions have no verdict.
    return { ...(film as WorklistFilm), verdict: film.verdict ?? verdictOf(results) };
  } catch {
    return null;
  }
}

function filmOf({ id, origin, outcome, frame, failure, spans, graph }: Settled): WorklistFilm {
  const { source, name, path, size, mtimeMs, sha256, receivedAt } = origin;
  const results = withoutImages(frame?.results ?? {}) as Row['results'];
  return {
    id,
    source,
    file: name,
    outcome,
    receivedAt,
    settledAt: new Date().toISOString(),
    meta: withoutImages(frame?.meta ?? {}) as Row['meta'],
    results,
    failure:
      failure === undefined
        ? null
        : { code: failure.code, stage: failure.component ?? null, message: failure.message },
    verdict: verdictOf(results),
    path,
    size,
    mtimeMs,
    sha256,
    graph,
    timings: spans.map((span) => ({ ...span, startedAt: micros(span.startedAt), ms: micros(span.ms) })),
    images: Object.entries(frame?.results ?? {}).flatMap(([stage, result]) =>
      Object.entries(result).flatMap(([field, value]) => (isImage(value) ? [{ stage, field }] : [])),
    ),
  };
}

/** Milliseconds to the microsecond. */
function micros(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** The row of a film. */
export function rowOf(film: WorklistFilm): Row {
  const { id, source, file, outcome, receivedAt, settledAt, meta, results, failure, verdict } = film;
  return { id, source, file, outcome, receivedAt, settledAt, meta, results, failure, verdict };
}

/** By what films are known to be of one patient. */
export interface Patient {
  readonly by: 'patient' | 'study' | 'folder';
  readonly value: string;
}

/**
 * The patient's id or the study in a DICOM header, as far as `decode` passes them on (a study by a mapped UID unless told
 * otherwise), else the film's folder; undefined for a film of none.
 */
export function patientOf({ file, source, meta }: Row): Patient | undefined {
  const { PatientID, StudyInstanceUID } = (meta['dicom'] ?? {}) as Partial<Record<string, unknown>>;
  if (typeof PatientID === 'string') return { by: 'patient', value: PatientID };
  if (typeof StudyInstanceUID === 'string') return { by: 'study', value: StudyInstanceUID };
  const end = file.lastIndexOf('/');
  return end < 0 ? undefined : { by: 'folder', value: `${source}:${file.slice(0, end)}` };
}

/** Abnormal films before the others, the more suspicious first. */
function rankOf({ verdict }: Row): number {
  return (verdict.abnormal === true ? 2 : 0) + (verdict.suspicion ?? -1);
}

/**
 * How much a film is worth reviewing, 0–3, or −1 if it has been reviewed: models disagree (1), the verdict is near the
 * threshold (up to 1), an anomaly stage finds it unusual (up to 1).
 */
function worthOf({ id, verdict, results, outcome }: Row, reviews: ReadonlyMap<string, Review>): number {
  if (reviews.has(id) || outcome !== 'done') return -1;
  const judged = Object.values(results).map(
    (result) => (result ?? {}) as { abnormal?: unknown; percentile?: unknown },
  );
  const said = new Set(judged.map(({ abnormal }) => abnormal).filter((each) => typeof each === 'boolean'));
  const near = verdict.suspicion === null ? 0 : 1 - 2 * Math.abs(verdict.suspicion - 0.5);
  const percentiles = judged.map(({ percentile }) => (typeof percentile === 'number' ? percentile / 100 : 0));
  return (said.size > 1 ? 1 : 0) + near + Math.max(0, ...percentiles);
}

function labelsOf({ results }: Row): unknown[] {
  return Object.values(results).flatMap((result) => {
    const { label, positives } = (result ?? {}) as { label?: unknown; positives?: unknown[] };
    return positives ?? [label];
  });
}
