import { z } from 'zod';
import { RxrayError } from '../../core/errors.js';
import { get, refusalOf } from '../../core/http.js';
import { isDicom, parse } from '../../dicom/parse.js';

/** The UIDs of an object in the archive. */
export interface Place {
  readonly study: string;
  readonly series: string;
  readonly instance: string;
}

export interface Series extends Pick<Place, 'study' | 'series'> {
  /** The number of its objects; undefined if the archive does not say. */
  readonly count: number | undefined;
}

export interface ArchiveOptions {
  /** The root of the service. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly answerTimeoutMs: number;
}

const STUDY = '0020000D';
const SERIES = '0020000E';
const INSTANCE = '00080018';
/** NumberOfSeriesRelatedInstances. */
const COUNT = '00201209';
const UID = /^(?!.*\.\.)\d[\d.]{0,63}$/;

/** Entries per page; size limit for answers of an archive that sends all at once. */
const PAGE = 100;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** Allowance for the multipart envelope of a film. */
const MAX_WRAPPING = 64 * 1024;

const entries = z.array(z.record(z.string(), z.object({ Value: z.array(z.unknown()).optional() })));

/** A PACS with DICOMweb: QIDO-RS searches for films, WADO-RS fetches them (PS3.18, 10.4 and 10.6). */
export class Archive {
  readonly #root: string;

  constructor(
    private readonly options: ArchiveOptions,
    private readonly teardown: AbortSignal,
  ) {
    this.#root = options.url.replace(/\/+$/, '');
  }

  /** The matching series. Throws {@link Unavailable}, or FRAME_UNREADABLE if the archive refuses. */
  async *series(query: Readonly<Record<string, string>>): AsyncGenerator<Series> {
    for await (const entry of this.#search('/series', { ...query, includefield: COUNT })) {
      const [study, series] = [uidIn(entry, STUDY), uidIn(entry, SERIES)];
      const count = Number(entry[COUNT]?.Value?.[0]);
      if (study === undefined || series === undefined) continue;
      yield { study, series, count: Number.isSafeInteger(count) ? count : undefined };
    }
  }

  /** The objects of a series. */
  async *instances({ study, series }: Pick<Place, 'study' | 'series'>): AsyncGenerator<Place> {
    for await (const entry of this.#search(`/studies/${study}/series/${series}/instances`, {})) {
      const instance = uidIn(entry, INSTANCE);
      if (instance !== undefined) yield { study, series, instance };
    }
  }

  /**
   * An object as a DICOM file, in the transfer syntax stored in the archive.
   *
   * Throws {@link Unavailable}; FRAME_TOO_LARGE; FRAME_UNREADABLE if the archive refuses, or sends another object.
   */
  async retrieve({ study, series, instance }: Place, maxBytes: number): Promise<Buffer> {
    const url = new URL(`${this.#root}/studies/${study}/series/${series}/instances/${instance}`);
    const accept = 'multipart/related; type="application/dicom"; transfer-syntax=*';
    const { response, body } = await this.#get(url, accept, maxBytes + MAX_WRAPPING);
    if (response.status !== 200) throw unreadable(refusalOf(response));
    const film = body && partIn(body, response.headers.get('content-type') ?? '');
    if (film === undefined || film.length > maxBytes) {
      throw new RxrayError(
        'FRAME_TOO_LARGE',
        `the film has more bytes than limits.bytes allows in flight (${String(maxBytes)})`,
      );
    }
    // `decode` refuses files that cannot be read.
    if ((sopInstanceIn(film, maxBytes) ?? instance) !== instance)
      throw unreadable('it sent another object than was asked for');
    return film;
  }

  /** Whether it answers, other than that it may do so later. */
  async isUp(): Promise<boolean> {
    try {
      const url = new URL(`${this.#root}/series?limit=1`);
      const { response } = await this.#get(url, 'application/dicom+json', MAX_ANSWER_BYTES);
      // A proxy answers 502 or 503 for an archive that is down.
      if (!response.ok) refusalOf(response);
      return true;
    } catch {
      return false;
    }
  }

  async *#search(
    path: string,
    query: Readonly<Record<string, string>>,
  ): AsyncGenerator<z.output<typeof entries>[number]> {
    const seen = new Set<string>();
    for (let offset = 0; ;) {
      const url = new URL(`${this.#root}${path}`);
      for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
      url.searchParams.set('limit', String(PAGE));
      url.searchParams.set('offset', String(offset));
      const { response, body } = await this.#get(url, 'application/dicom+json', MAX_ANSWER_BYTES);
      if (response.status === 204) return;
      if (response.status !== 200) throw unreadable(refusalOf(response));
      if (body === undefined)
        throw unreadable('its list of films is too long: ask for less with `days` or `query`');
      const page = entriesIn(body);
      const before = seen.size;
      for (const entry of page) {
        const key = JSON.stringify([STUDY, SERIES, INSTANCE].map((tag) => entry[tag]?.Value));
        if (seen.has(key)) continue;
        seen.add(key);
        yield entry;
      }
      offset += page.length;
      // PS3.18, 8.3.4.4: an archive may give fewer than were asked for, and warns that there are more.
      const isCut = /^299\b/.test(response.headers.get('warning') ?? '');
      // An archive may ignore `limit` and `offset`: then nothing is new on the second page.
      if ((page.length < PAGE && !isCut) || seen.size === before) return;
    }
  }

  #get(url: URL, accept: string, most: number): ReturnType<typeof get> {
    const headers = new Headers({ accept, 'user-agent': 'rxray' });
    for (const [name, value] of Object.entries(this.options.headers)) headers.set(name, value);
    return get(url, { headers, timeoutMs: this.options.answerTimeoutMs, teardown: this.teardown }, most);
  }
}

export function isUid(text: string): boolean {
  return UID.test(text);
}

function uidIn(entry: z.output<typeof entries>[number], tag: string): string | undefined {
  const value = entry[tag]?.Value?.[0];
  return typeof value === 'string' && isUid(value) ? value : undefined;
}

function entriesIn(body: Buffer): z.output<typeof entries> {
  try {
    return entries.parse(body.length === 0 ? [] : JSON.parse(body.toString()));
  } catch (cause) {
    throw unreadable('its list of films is not the JSON of DICOMweb', cause);
  }
}

/** The first part of a multipart answer (PS3.18, 8.7.1), or the answer itself. */
function partIn(body: Buffer, contentType: string): Buffer {
  if (/^application\/dicom\b/i.test(contentType)) return body;
  const [, quoted, bare] = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType) ?? [];
  const boundary = quoted ?? bare;
  if (!contentType.toLowerCase().startsWith('multipart/related') || boundary === undefined)
    throw unreadable('its answer is no DICOM object');
  const start = body.indexOf(`--${boundary}`);
  const content = body.indexOf('\r\n\r\n', start);
  const end = body.indexOf(`\r\n--${boundary}`, content);
  if (start < 0 || content < 0 || end < 0) throw unreadable('its answer is incomplete');
  return body.subarray(content + 4, end);
}

/** The UIDs of a file's object; undefined if they cannot be read. */
function sopInstanceIn(film: Buffer, maxBytes: number): string | undefined {
  if (!isDicom(film)) return undefined;
  try {
    return parse(film, { maxBytes }, []).dataSet.string(0x00080018);
  } catch {
    return undefined;
  }
}

function unreadable(reason: string, cause?: unknown): RxrayError {
  return new RxrayError('FRAME_UNREADABLE', `the film could not be fetched: ${reason}`, { cause });
}
