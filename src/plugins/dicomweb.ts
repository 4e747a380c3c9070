import { randomBytes } from 'node:crypto';
import { copyFile, link, lstat, mkdir, realpath, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Observable, Subject } from 'rxjs';
import { z } from 'zod';
import { messageOf, RxrayError, Unavailable } from '../core/errors.js';
import { isCode } from '../core/files.js';
import { addressFaults, headerFaults, logRoute } from '../core/http.js';
import {
  type Candidate,
  type Copy,
  defineSource,
  type LintMessage,
  MAX_TIMER_MS,
  type SourceInstance,
  type SourceServices,
} from '../core/plugin.js';
import { Archive, isUid, type Place } from './dicomweb/archive.js';

const options = z.strictObject({
  url: z
    .url({ protocol: /^https?$/ })
    .describe(
      'The root of the DICOMweb service, to which `/series` is added: `http://127.0.0.1:8042/dicom-web`.',
    ),
  headers: z
    .record(z.string(), z.string())
    .default({})
    .describe('Additional headers, such as `Authorization`.'),
  modalities: z
    .array(z.string().regex(/^[A-Z]{2,16}$/, 'expected a modality such as `CR`'))
    .min(1)
    .default(['CR', 'DX'])
    .describe(
      'The modalities to fetch. Leave out those of the objects that rxray sends back (SR, OT, SEG, PR).',
    ),
  days: z
    .int()
    .positive()
    .optional()
    .describe('Only studies of today and of this many days before. Default: all studies of the archive.'),
  query: z
    .record(z.string(), z.string())
    .default({})
    .refine(
      (query) =>
        Object.keys(query).every((name) => !/^(limit|offset|includefield|modality|00080060)$/i.test(name)),
      'expected attributes to match: `limit`, `offset`, `includefield` and `Modality` are set by rxray',
    )
    .describe(
      'More attributes that a series or its study must match, by keyword: `{ BodyPartExamined: CHEST }`.',
    ),
  pollMs: z.int().min(100).max(MAX_TIMER_MS).default(60_000).describe('Wait between two searches.'),
  path: z
    .string()
    .min(1)
    .default('./fetched')
    .describe(
      'The folder for films that are being processed, relative to the pipeline file. Created if it is missing.',
    ),
  onDone: z
    .enum(['delete', 'keep'])
    .default('delete')
    .describe(
      'What happens to a fetched file that is done. A failed one stays, and the dead letter has a copy.',
    ),
  answerTimeoutMs: z
    .int()
    .positive()
    .max(MAX_TIMER_MS)
    .default(60_000)
    .describe('Time limit for one request, including the download of a film.'),
});
type DicomwebOptions = z.output<typeof options>;

export default defineSource({
  name: 'dicomweb',
  summary: 'Searches a PACS for films again and again, and fetches new ones over HTTP (QIDO-RS, WADO-RS).',
  options,
  examples: [
    { title: 'From an Orthanc on this machine', with: { url: 'http://127.0.0.1:8042/dicom-web' } },
    {
      title: 'The chest films of the last week, with a token',
      with: {
        url: 'https://pacs.example.org/dicomweb',
        headers: { authorization: 'Bearer 0123' },
        modalities: ['DX'],
        days: 7,
        query: { BodyPartExamined: 'CHEST' },
      },
    },
  ],
  lint: ({ url, headers }) => faultsOf(url, headers),
  takes: ({ path }, file, baseDir) =>
    placeOf(relative(resolve(baseDir, path), file).split(sep).join('/')) !== undefined,
  async create(settings, services) {
    const { id: component, log } = services;
    for (const { option, message } of faultsOf(settings.url, settings.headers)) {
      throw new RxrayError('CONFIG_CREATE', `${option.join('.')}: ${message}`, { component });
    }
    logRoute(new URL(settings.url), log);
    const folder = services.resolve(settings.path);
    try {
      return await DicomwebSource.open(settings, services, folder);
    } catch (cause) {
      throw new RxrayError('CONFIG_CREATE', `the folder ${folder} cannot be written: ${messageOf(cause)}`, {
        cause,
      });
    }
  },
});

/** Films per query of the journal. */
const AT_ONCE = 64;
/** Longest wait between attempts; number of attempts after which a film fails while the archive answers other requests. */
const MAX_WAIT_MS = 30_000;
const ATTEMPTS = 5;
/** A series with the same count is listed again after this time: a film may have been replaced by another. */
const LIST_AGAIN_MS = 3_600_000;
/** Films that are being written, and copies that are being read. */
const PARTS = '.incoming';

class DicomwebSource implements SourceInstance {
  readonly candidates$: Observable<Candidate>;
  readonly #again = new Subject<Candidate>();
  readonly #archive: Archive;
  /** The number of objects in each series when it was last listed, and when (monotonic, ms). */
  readonly #counts = new Map<string, { readonly count: number; readonly at: number }>();
  #outage: string | null = null;

  private constructor(
    private readonly root: string,
    private readonly settings: DicomwebOptions,
    private readonly services: SourceServices,
  ) {
    this.#archive = new Archive(settings, services.signal);
    this.candidates$ = new Observable((subscriber) => {
      const again = this.#again.subscribe(subscriber);
      const ended = new AbortController();
      this.#poll((candidate) => subscriber.next(candidate), ended.signal).then(
        () => {
          if (services.once) subscriber.complete();
        },
        (error: unknown) => subscriber.error(error),
      );
      return () => {
        again.unsubscribe();
        ended.abort();
      };
    });
  }

  static async open(
    settings: DicomwebOptions,
    services: SourceServices,
    folder: string,
  ): Promise<DicomwebSource> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const root = await realpath(folder);
    await rm(join(root, PARTS), { recursive: true, force: true });
    await mkdir(join(root, PARTS), { mode: 0o700 });
    return new DicomwebSource(root, settings, services);
  }

  look(name: string): Promise<Candidate | undefined> {
    const place = placeOf(name);
    return Promise.resolve(place && this.#candidate(place));
  }

  /**
   * Downloads a film into the folder, where it stays until it is settled: a sink may read its header there. Returns a hard
   * link to it, which the host reads and then deletes.
   */
  async fetch(candidate: Candidate, maxBytes: number): Promise<Copy | undefined> {
    const place = placeOf(candidate.name);
    if (place === undefined)
      throw new RxrayError('FRAME_UNREADABLE', 'the film does not belong to this source');
    const isThere = await lstat(candidate.path).then(
      (info) => info.isFile(),
      () => false,
    );
    if (!isThere) await this.#bring(place, candidate.path, maxBytes);
    const copy = join(this.root, PARTS, `${randomBytes(8).toString('hex')}.dcm`);
    await link(candidate.path, copy).catch(() => copyFile(candidate.path, copy));
    const { size, mtimeMs } = await lstat(copy);
    return { path: copy, size, mtimeMs };
  }

  lost(candidate: Candidate): void {
    this.#again.next(candidate);
  }

  async settle({ path }: Candidate, outcome: 'done' | 'failed'): Promise<void> {
    if (outcome === 'failed' || this.settings.onDone === 'keep') return;
    await rm(path, { force: true });
    // The folders of its series and study are removed with their last film.
    const series = dirname(path);
    await rmdir(series)
      .then(() => rmdir(dirname(series)))
      .catch(() => undefined);
  }

  async #bring(place: Place, path: string, maxBytes: number): Promise<void> {
    const film = await this.#retrieve(place, maxBytes);
    const part = join(this.root, PARTS, `${randomBytes(8).toString('hex')}.part`);
    await writeFile(part, film, { mode: 0o600 });
    // Another film of its series may be settled meanwhile, and their folders be removed.
    for (let attempt = 1; ; attempt++) {
      try {
        await mkdir(dirname(path), { recursive: true, mode: 0o700 });
        await rename(part, path);
        return;
      } catch (error) {
        if (attempt >= ATTEMPTS || !isCode(error, 'ENOENT')) throw error;
      }
    }
  }

  /** While the archive is down, films wait; while it answers, a film that cannot be fetched fails. */
  async #retrieve(place: Place, maxBytes: number): Promise<Buffer> {
    for (let attempt = 1; ; attempt++) {
      try {
        const film = await this.#archive.retrieve(place, maxBytes);
        this.#tellOutage(null);
        return film;
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
        if (attempt >= ATTEMPTS && (this.services.once || (await this.#archive.isUp()))) {
          throw new RxrayError('FRAME_UNREADABLE', `the film could not be fetched: ${messageOf(error)}`, {
            cause: error,
          });
        }
        this.#tellOutage(messageOf(error));
        await this.#wait(Math.max(error.retryAfterMs, Math.min(MAX_WAIT_MS, 250 * 2 ** attempt)));
      }
    }
  }

  /** Searches until `ended`; once, where the run ends. */
  async #poll(offer: (candidate: Candidate) => void, ended: AbortSignal): Promise<void> {
    for (let attempt = 1; !ended.aborted; attempt++) {
      let waitMs = this.settings.pollMs;
      try {
        await this.#search(offer, ended);
        this.#tellOutage(null);
        if (this.services.once) return;
        attempt = 0;
      } catch (error) {
        if (this.services.signal.aborted || isAborted(ended)) return;
        const { host } = new URL(this.settings.url);
        if (this.services.once && (attempt >= ATTEMPTS || !(error instanceof Unavailable))) {
          this.services.unread(host, `the archive cannot be searched: ${messageOf(error)}`);
          return;
        }
        this.#tellOutage(messageOf(error));
        waitMs = Math.min(waitMs, MAX_WAIT_MS, 250 * 2 ** attempt);
      }
      await this.#wait(waitMs, ended);
    }
  }

  async #search(offer: (candidate: Candidate) => void, ended: AbortSignal): Promise<void> {
    const { modalities, days, query } = this.settings;
    const since = days === undefined ? {} : { StudyDate: `${dateBefore(days)}-` };
    for (const Modality of modalities) {
      for await (const { study, series, count } of this.#archive.series({ ...since, ...query, Modality })) {
        if (ended.aborted) return;
        // Unchanged since the last query of the journal for its films.
        const last = this.#counts.get(series);
        if (last !== undefined && last.count === count && performance.now() - last.at < LIST_AGAIN_MS)
          continue;
        let some: Candidate[] = [];
        let listed = 0;
        for await (const place of this.#archive.instances({ study, series })) {
          listed += 1;
          some.push(this.#candidate(place));
          if (some.length === AT_ONCE) {
            for (const candidate of await this.services.unsettled(some)) offer(candidate);
            some = [];
          }
        }
        for (const candidate of await this.services.unsettled(some)) offer(candidate);
        // An archive may count an object that it does not list yet.
        if (listed === count) this.#counts.set(series, { count, at: performance.now() });
      }
    }
  }

  /** Size and time are unknown before the film is fetched: its UIDs identify it. */
  #candidate({ study, series, instance }: Place): Candidate {
    const name = `${study}/${series}/${instance}.dcm`;
    return { path: join(this.root, name), name, size: 0, mtimeMs: 0 };
  }

  #tellOutage(reason: string | null): void {
    if (reason === this.#outage) return;
    this.#outage = reason;
    this.services.outage(reason);
    if (reason === null) this.services.log.info({ source: this.services.id }, 'the archive answers again');
    else this.services.log.warn({ source: this.services.id }, `the archive: ${reason}`);
  }

  /** Rejects when the graph is torn down. */
  async #wait(ms: number, ended?: AbortSignal): Promise<void> {
    const { signal } = this.services;
    await setTimeout(ms, undefined, { signal: ended ? AbortSignal.any([signal, ended]) : signal }).catch(
      (error: unknown) => {
        if (ended?.aborted !== true) throw error;
      },
    );
  }
}

/** A function, because the value changes during an `await`. */
function isAborted({ aborted }: AbortSignal): boolean {
  return aborted;
}

function placeOf(name: string): Place | undefined {
  const [study = '', series = '', file = '', ...rest] = name.split('/');
  const instance = file.replace(/\.dcm$/, '');
  const fits = rest.length === 0 && file.endsWith('.dcm') && [study, series, instance].every(isUid);
  return fits ? { study, series, instance } : undefined;
}

/** `20260131`: the date this many days ago, in the machine's time zone. */
function dateBefore(days: number): string {
  const date = new Date();
  date.setDate(date.getDate() - days);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
}

function faultsOf(url: string, headers: Readonly<Record<string, string>>): LintMessage[] {
  return [...addressFaults(url), ...headerFaults(headers)];
}
