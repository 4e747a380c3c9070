import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, parse as parsePath } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { crc32 } from 'node:zlib';
import { parse } from 'csv-parse';
import { messageOf, RxrayError } from '../core/errors.js';
import type { Log } from '../core/plugin.js';
import { DurableFile, replaceFile, syncFolder } from './durable-file.js';
import { type FileLock, lockFile } from './file-lock.js';

/** A row, already written as CSV and ended by CRLF, and the frame that it tells of. */
export interface Row {
  readonly id: string;
  readonly text: string;
}

export interface CsvFileOptions {
  readonly path: string;
  /** Where the committed length is kept. */
  readonly stateDir: string;
  /** The names of the columns. */
  readonly columns: readonly string[];
  /** The first line, as {@link columns} are written, with the byte order mark if there is one. */
  readonly header: string;
  readonly delimiter: string;
  /** Which column holds the frame id; without one, the ids are kept beside the committed length. */
  readonly idColumn: number | undefined;
  /** Keep what is there under another name, and begin anew. */
  readonly setAside: boolean;
  readonly log: Log;
}

/** How far the file is committed: its length in bytes, the CRC-32 of that many bytes, and the ids in it. */
interface Commit {
  readonly length: number;
  readonly crc: number;
  readonly ids?: readonly string[];
}

/** The journal of commits is written anew when it has grown by this much. */
const COMPACT_AFTER = 1 << 20;

/**
 * A CSV file that holds every row exactly once, whatever happens in between.
 *
 * A group of rows is appended and synced, then the new length is appended to a small journal in the
 * state folder and synced, and only then do the rows count. When it is opened, what lies behind the last
 * committed byte is the torn rest of a group that nobody was told of: it is cut off. Cutting at the last
 * line end instead would go wrong inside quoted fields.
 */
export class CsvFile {
  readonly #rows: DurableFile;
  readonly #commits: CommitLog;
  readonly #lock: FileLock;
  readonly #keepIds: boolean;
  readonly #ids: Set<string>;
  #crc: number;

  private constructor(rows: DurableFile, commits: CommitLog, lock: FileLock, found: Found, keepIds: boolean) {
    this.#rows = rows;
    this.#commits = commits;
    this.#lock = lock;
    this.#keepIds = keepIds;
    this.#ids = found.ids;
    this.#crc = found.crc;
  }

  /** Opens, recovers or creates the file. Throws OUTPUT_UNWRITABLE. */
  static async open(options: CsvFileOptions): Promise<CsvFile> {
    let lock: FileLock | undefined;
    try {
      await mkdir(dirname(options.path), { recursive: true });
      await mkdir(options.stateDir, { recursive: true });
      const path = await realPathOf(options.path);
      lock = await lockFile(join(dirname(path), `.${basename(path)}.lock`));
      if (lock === undefined) {
        throw unwritable(
          options.path,
          'another rxray, or another sink of this graph, is writing it: give each a path of its own',
        );
      }
      if (options.setAside) await setAside(path, options.log);
      const journal = join(options.stateDir, `csv-${sha256(path).slice(0, 16)}.jsonl`);
      const found = await recover(path, journal, options);
      const file = new CsvFile(
        await DurableFile.open(path, found.length),
        new CommitLog(journal),
        lock,
        found,
        options.idColumn === undefined,
      );
      await file.#compact();
      return file;
    } catch (error) {
      await lock?.release();
      if (error instanceof RxrayError) throw error;
      throw unwritable(options.path, messageOf(error), error);
    }
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Resolves when the rows are on the disk and counted. When it rejects, none of them is. */
  async append(rows: readonly Row[]): Promise<void> {
    if (this.#commits.due) await this.#compact();
    const bytes = Buffer.from(rows.map((row) => row.text).join(''));
    const before = this.#rows.length;
    const crc = crc32(bytes, this.#crc);
    const ids = rows.map((row) => row.id);
    await this.#rows.append(bytes);
    try {
      await this.#commits.append({ length: this.#rows.length, crc, ...(this.#keepIds && { ids }) });
    } catch (error) {
      this.#rows.cut(before);
      throw error;
    }
    this.#crc = crc;
    for (const id of ids) this.#ids.add(id);
  }

  async #compact(): Promise<void> {
    const length = this.#rows.length;
    await this.#commits.compact({ length, crc: this.#crc, ...(this.#keepIds && { ids: [...this.#ids] }) });
  }

  async close(): Promise<void> {
    await this.#rows.close();
    await this.#commits.close();
    await this.#lock.release();
  }
}

/** The commits, one JSON line each; the last whole line counts. */
class CommitLog {
  readonly #path: string;
  #file: DurableFile | undefined;
  #compactAt = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Whether {@link compact} has to come before the next commit: it is long, or compacting it failed. */
  get due(): boolean {
    return this.#file === undefined || this.#file.length > this.#compactAt;
  }

  async append(commit: Commit): Promise<void> {
    await this.#file?.append(lineOf(commit));
  }

  /** Starts anew with everything that has been committed so far, in one line. */
  async compact(whole: Commit): Promise<void> {
    await this.close();
    const line = lineOf(whole);
    await replaceFile(this.#path, line);
    this.#file = await DurableFile.open(this.#path, line.byteLength);
    this.#compactAt = 2 * line.byteLength + COMPACT_AFTER;
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}

const lineOf = (commit: Commit): Buffer => Buffer.from(`${JSON.stringify(commit)}\n`);

interface Found {
  readonly length: number;
  readonly crc: number;
  readonly ids: Set<string>;
}

/** Brings the file to its last committed state, or creates it with its header. */
async function recover(path: string, journal: string, options: CsvFileOptions): Promise<Found> {
  const size = await sizeOf(path);
  if (size === 0) {
    // A journal without its file is of a file that was moved away. It goes first: a crash in between
    // leaves a file without a journal, which is taken as it is.
    await rm(journal, { force: true });
    await syncFolder(dirname(journal));
    await replaceFile(path, Buffer.from(options.header));
    return { length: Buffer.byteLength(options.header), crc: crc32(options.header), ids: new Set() };
  }

  const commit = await lastCommit(journal);
  const length = commit?.length ?? size;
  if (size < length) {
    throw unwritable(
      path,
      `expected the ${length} bytes that rxray left there, found ${size}. ${wayOut(journal)}`,
    );
  }
  const { crc, ids, endsRow } = await readCommitted(path, length, options);
  if (commit !== undefined && commit.crc !== crc) {
    throw unwritable(path, `another program has changed it since rxray wrote it. ${wayOut(journal)}`);
  }
  if (!endsRow) throw unwritable(path, 'it ends in the middle of a row. Name another path, or move it away');
  if (size > length) {
    const torn = `${journal}.torn`;
    await pipeline(createReadStream(path, { start: length }), createWriteStream(torn));
    options.log.warn(
      { path, bytes: size - length, torn },
      'the CSV file ended in rows that were never confirmed: they are cut off and written again',
    );
  }
  for (const id of commit?.ids ?? []) ids.add(id);
  return { length, crc, ids };
}

const wayOut = (journal: string): string =>
  `Name another path, or move the file away; to go on with the file as it is, delete ${journal}`;

/** Reads the first `length` bytes in one pass: their CRC, the ids in them, whether they end with a row. */
async function readCommitted(
  path: string,
  length: number,
  { columns, delimiter, idColumn }: CsvFileOptions,
): Promise<Found & { endsRow: boolean }> {
  const ids = new Set<string>();
  let crc = 0;
  let last: number | undefined;
  let header: readonly string[] | undefined;
  try {
    await pipeline(
      createReadStream(path, { end: length - 1 }),
      async function* (chunks: AsyncIterable<Buffer>) {
        for await (const chunk of chunks) {
          crc = crc32(chunk, crc);
          last = chunk.at(-1);
          yield chunk;
        }
      },
      parse({ delimiter, bom: true, record_delimiter: '\r\n', relax_column_count: true }),
      async (records: AsyncIterable<readonly string[]>) => {
        for await (const record of records) {
          if (header === undefined) checkHeader(path, columns, (header = record));
          else if (idColumn !== undefined) ids.add(record[idColumn] ?? '');
        }
      },
    );
  } catch (error) {
    if (error instanceof RxrayError) throw error;
    throw unwritable(
      path,
      `expected a CSV file that rxray wrote, but: ${messageOf(error)}. Name another path`,
      error,
    );
  }
  return { length, crc, ids, endsRow: last === 0x0a };
}

function checkHeader(path: string, expected: readonly string[], found: readonly string[]): void {
  if (found.length === expected.length && found.every((name, i) => name === expected[i])) return;
  throw unwritable(
    path,
    `its columns are ${found.join(', ')}; expected ${expected.join(', ')}. Name another path, or move it away`,
  );
}

async function lastCommit(journal: string): Promise<Commit | undefined> {
  const text = await readFile(journal, 'utf8').catch((error: unknown) => {
    if (isMissing(error)) return '';
    throw error;
  });
  // The text after the last line end is a torn line: it was never confirmed.
  const commits = text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Commit);
  const last = commits.at(-1);
  return last && { ...last, ids: commits.flatMap((commit) => commit.ids ?? []) };
}

async function sizeOf(path: string): Promise<number> {
  try {
    const found = await stat(path);
    if (!found.isFile())
      throw unwritable(path, 'expected a file, or nothing, but it is a folder or a device');
    return found.size;
  } catch (error) {
    if (isMissing(error)) return 0;
    throw error;
  }
}

/** `results.csv` becomes `results.2026-01-31T08-15-00-000Z.csv`. */
async function setAside(path: string, log: Log): Promise<void> {
  if ((await sizeOf(path)) === 0) return;
  const { dir, name, ext } = parsePath(path);
  const kept = join(dir, `${name}.${new Date().toISOString().replaceAll(/[:.]/g, '-')}${ext}`);
  await rename(path, kept);
  log.info({ path, kept }, 'what is processed again begins a new CSV file; the old one is kept');
}

/** The path without symbolic links, so that one file has one lock and one journal. */
async function realPathOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (isMissing(error)) return join(await realpath(dirname(path)), basename(path));
    throw error;
  }
}

const isMissing = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ENOENT';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

function unwritable(path: string, reason: string, cause?: unknown): RxrayError {
  return new RxrayError('OUTPUT_UNWRITABLE', `${path} cannot be written: ${reason}`, { cause });
}
