import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, type Stats } from 'node:fs';
import { copyFile, mkdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, parse as parsePath, sep } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { durably } from '../core/durable.js';
import { messageOf, RxrayError } from '../core/errors.js';
import { isCode, realPathOf, replaceFile, syncFolder } from '../core/files.js';
import type { Log } from '../core/plugin.js';
import { DurableFile } from './durable-file.js';
import { type FileLock, lockFile } from './file-lock.js';

/** When to begin a new file. */
export const rotation = z
  .strictObject({
    bytes: z
      .int()
      .min(1)
      .optional()
      .describe('Start a new file before it grows beyond this many bytes. Rows are never split.'),
    every: z.enum(['day']).optional().describe('Start a new file with the first row of a day (UTC).'),
  })
  .refine(({ bytes, every }) => bytes !== undefined || every !== undefined, 'expected `bytes` or `every`')
  .optional()
  .describe('Start new files; old ones are kept as `results.<time>.csv`, or `results.<day>.csv`.');
export type Rotation = NonNullable<z.output<typeof rotation>>;

/** The file, and an earlier one that was renamed. */
export function filesOf(path: string): readonly string[] {
  const { dir, name, ext } = parsePath(path);
  return [path, join(dir, `${name}.${timestamp()}${ext}`)];
}

/** A row of the file, with its line end, and its frame. */
export interface Row {
  readonly id: string;
  readonly text: string;
}

/** The format of the rows. */
export interface RowFormat {
  /** The name in the state folder and in durable actions. */
  readonly name: 'csv' | 'jsonl';
  /** The text before the first row. */
  readonly header: string;
  /** Whether {@link scan} finds the ids; otherwise they are stored with the committed length. */
  readonly holdsIds: boolean;
  /** Reads a file from its beginning and passes on the ids in it. Throws if it is faulty, or {@link OtherColumns}. */
  scan(bytes: AsyncIterable<Buffer>, found: (id: string) => void): Promise<void>;
  /** Passes on the ids in a file with other columns, as far as they can be found. */
  scanOther?(open: () => AsyncIterable<Buffer>, found: (id: string) => void): Promise<void>;
}

/** The file has another header than the rows that are to be written. */
export class OtherColumns extends Error {}

export interface CommittedFileOptions {
  readonly path: string;
  /** The folder for the committed length. */
  readonly stateDir: string;
  readonly format: RowFormat;
  readonly rotate?: Rotation | undefined;
  /** Keep an existing file under another name, and start a new one. */
  readonly setAside: boolean;
  readonly log: Log;
}

/** The committed state of the file. */
interface Commit {
  /** In bytes. */
  readonly length: number;
  /** The CRC-32 of that many bytes. */
  readonly crc: number;
  /** The day of the last row: `2026-01-31`. */
  readonly day: string;
  /** Number of the commit: of two journals, the one with the higher number is later. */
  readonly seq?: number;
  /** The ids of the rows, if the rows do not contain them. */
  readonly ids?: readonly string[];
  /** The ids in the file before this one: their frames may not have been confirmed before the rotation. */
  readonly known?: readonly string[];
  /** The file is about to be renamed; {@link known} has its ids. */
  readonly rotating?: true;
}

/** The journal of commits is compacted when it has grown by this much. */
const COMPACT_AFTER = 1 << 20;
const NEWLINE = 0x0a;
/** Where the end of the last complete row is looked for: in so many bytes, at so many line ends. */
const LAST_ROWS_BYTES = 1 << 20;
const LAST_ROWS = 16;

/**
 * A file of rows with each row exactly once, also after crashes. A group of rows is appended and synced, then the new
 * length is appended to a small journal in the state folder and synced; only then are the rows confirmed. When the file
 * is opened, bytes after the committed length are an incomplete group that was never confirmed: they are cut off, and
 * kept in the state folder. (Cutting at the last line end would be wrong inside quoted fields.) A copy of the journal
 * is kept beside the file. It is not synced, so it is never ahead of the one in the state folder, unless that was
 * restored from a backup: then the copy has the rows that were confirmed since. A file that another program has changed
 * is kept under another name, and a new one is started.
 */
export class CommittedFile {
  readonly #options: CommittedFileOptions;
  readonly #path: string;
  readonly #lock: FileLock;
  readonly #commits: CommitLog;
  readonly #copy: CommitLog;
  #rows: DurableFile;
  /** The file's state after the last group; undefined if that is not known. */
  #left: Stats | undefined;
  #crc: number;
  #day: string;
  #seq: number;
  #ids: Set<string>;
  #known: Set<string>;

  private constructor(
    options: CommittedFileOptions,
    path: string,
    lock: FileLock,
    commits: CommitLog,
    copy: CommitLog,
    rows: DurableFile,
    found: Found,
  ) {
    this.#options = options;
    this.#path = path;
    this.#lock = lock;
    this.#commits = commits;
    this.#copy = copy;
    this.#rows = rows;
    ({ crc: this.#crc, day: this.#day, seq: this.#seq, ids: this.#ids, known: this.#known } = found);
  }

  /** Opens, recovers or creates the file. Throws OUTPUT_UNWRITABLE. */
  static async open(options: CommittedFileOptions): Promise<CommittedFile> {
    const { stateDir, format, setAside, log } = options;
    let lock: FileLock | undefined;
    try {
      await mkdir(dirname(options.path), { recursive: true });
      await mkdir(stateDir, { recursive: true });
      // One lock and one journal per file, whatever links lead to it.
      const path = await realPathOf(options.path);
      // Reading a pipe would wait for its writer.
      await sizeOf(path);
      lock = await lockFile(join(dirname(path), `.${basename(path)}.lock`));
      if (lock === undefined) {
        throw unwritable(
          options.path,
          'another rxray, or another sink of this graph, is writing it: give each its own path',
        );
      }
      const journal = join(stateDir, `${format.name}-${sha256(path).slice(0, 16)}.jsonl`);
      if (setAside && (await sizeOf(path)) > 0) {
        const kept = await archive(path, timestamp());
        await rm(journal, { force: true });
        log.info(
          { path, kept },
          'results of films that are processed again go into a new file; the old one is kept',
        );
      }
      const copy = new CommitLog(join(dirname(path), `.${basename(path)}.commits`), false);
      const found = await recover(path, journal, copy.path, options);
      const rows = await durably(`${format.name}.cut`, () => DurableFile.open(path, found.length));
      // The file's folder may not have been synced when the file was created.
      await syncFolder(dirname(path));
      const file = new CommittedFile(options, path, lock, new CommitLog(journal), copy, rows, found);
      await file.#compact();
      return file;
    } catch (error) {
      await lock?.release();
      if (error instanceof RxrayError) throw error;
      throw unwritable(options.path, messageOf(error), error);
    }
  }

  has(id: string): boolean {
    return this.#ids.has(id) || this.#known.has(id);
  }

  /** Resolves when the rows are on the disk and committed. If it rejects, none of them is. */
  async append(rows: readonly Row[]): Promise<void> {
    const bytes = Buffer.from(rows.map((row) => row.text).join(''));
    await this.#lookAfter();
    if (this.#isFull(bytes.byteLength)) await this.#rotate();
    if (this.#commits.due) await this.#compact();
    const before = this.#rows.length;
    const crc = crc32(bytes, this.#crc);
    const day = today();
    const ids = rows.map((row) => row.id);
    await durably(`${this.#options.format.name}.append`, () => this.#rows.append(bytes));
    try {
      const left = await this.#rows.stat().catch(() => undefined);
      // Another length: another program has changed the file while it was written.
      this.#left = left?.size === this.#rows.length ? left : undefined;
      const commit = { length: this.#rows.length, crc, day, seq: ++this.#seq, ...this.#kept(ids) };
      await durably(`${this.#options.format.name}.commit`, () => this.#commits.append(commit));
      await this.#copied(() => this.#copy.append(commit));
    } catch (error) {
      this.#rows.cut(before);
      // Its line may still have reached the disk: the journal is rewritten before these rows are overwritten.
      await this.#commits.close();
      throw error;
    }
    this.#crc = crc;
    this.#day = day;
    for (const id of ids) this.#ids.add(id);
  }

  async close(): Promise<void> {
    await this.#rows.close();
    await this.#commits.close();
    await this.#copy.close();
    await this.#lock.release();
  }

  /** Other programs may have moved, replaced or changed the file since the last group. */
  async #lookAfter(): Promise<void> {
    const { log } = this.#options;
    const [own, there] = await Promise.all([this.#rows.stat(), statOf(this.#path)]);
    if (there === undefined) {
      log.warn({ path: this.#path }, 'the file has been moved or deleted: a new one is started');
      await this.#begin();
      return;
    }
    if (there.size === 0 && this.#rows.length > 0) {
      // An editor empties a file before it writes the new text: the text goes into the file that is kept.
      const kept = await archive(this.#path, timestamp());
      log.warn({ path: this.#path, kept }, 'the file has been emptied: it is kept, and a new one is started');
      await this.#begin();
      return;
    }
    const isOwn = there.ino === own.ino && there.dev === own.dev;
    if (isOwn && (this.#rows.torn || isAsLeft(own, this.#left))) return;
    if (!there.isFile() || !(await this.#holdsCommitted(there.size))) {
      const kept = await archive(this.#path, timestamp());
      log.warn(
        { path: this.#path, kept },
        'another program has changed the file: it is kept, and a new one is started',
      );
      this.#known = new Set([...this.#known, ...this.#ids]);
      await this.#begin();
      return;
    }
    if (there.size > this.#rows.length) {
      await keepTail(this.#path, this.#rows.length, this.#commits.path, log);
      this.#rows.cut(this.#rows.length);
    }
    if (isOwn) return;
    await this.#reopen(this.#rows.length);
  }

  /** Opens the file at the path. If that fails, the old one stays open, so that the next write can try again. */
  async #reopen(length: number): Promise<void> {
    const rows = await DurableFile.open(this.#path, length);
    const old = this.#rows;
    this.#rows = rows;
    await old.close();
  }

  /** Whether the file at the path begins with all committed bytes. */
  async #holdsCommitted(size: number): Promise<boolean> {
    const { length } = this.#rows;
    return size >= length && (await crcOf(this.#path, length)) === this.#crc;
  }

  #isFull(more: number): boolean {
    const { rotate, format } = this.#options;
    if (rotate === undefined || this.#rows.length <= Buffer.byteLength(format.header)) return false;
    // A clock that was set back does not start a new day.
    if (rotate.every === 'day' && today() > this.#day) return true;
    return rotate.bytes !== undefined && this.#rows.length + more > rotate.bytes;
  }

  /** Puts the file aside and begins a new one, with the ids of the old one. */
  async #rotate(): Promise<void> {
    const { rotate } = this.#options;
    this.#known = this.#ids;
    await this.#compact({ rotating: true });
    const tag = rotate?.bytes === undefined ? this.#day : timestamp();
    await durably(`${this.#options.format.name}.rotate`, () => archive(this.#path, tag));
    await this.#begin();
  }

  async #begin(): Promise<void> {
    const { header, name } = this.#options.format;
    await durably(`${name}.create`, () => replaceFile(this.#path, Buffer.from(header)));
    await this.#reopen(Buffer.byteLength(header));
    this.#crc = crc32(header);
    this.#ids = new Set();
    await this.#compact();
  }

  async #compact(rotating: { rotating?: true } = {}): Promise<void> {
    const commit = {
      length: this.#rows.length,
      crc: this.#crc,
      day: this.#day,
      seq: ++this.#seq,
      ...this.#kept([...this.#ids]),
      known: [...this.#known],
    };
    await this.#commits.compact({ ...commit, ...rotating });
    await this.#copied(() => this.#copy.compact(commit));
  }

  /** The copy only adds to the journal in the state folder: without it the file is still correct. */
  async #copied(act: () => Promise<void>): Promise<void> {
    await act().catch(() => this.#copy.close());
  }

  #kept(ids: readonly string[]): { ids?: readonly string[] } {
    return this.#options.format.holdsIds ? {} : { ids };
  }
}

/** The commits, one JSON line each; the last complete line counts. */
class CommitLog {
  #file: DurableFile | undefined;
  #compactAt = 0;

  /** Without `sync`, a commit is in the file when it resolves, but perhaps not on the disk. */
  constructor(
    readonly path: string,
    readonly sync = true,
  ) {}

  /** Whether {@link compact} must run before the next commit: the journal is long, or the last compaction failed. */
  get due(): boolean {
    return this.#file === undefined || this.#file.length > this.#compactAt;
  }

  async append(commit: Commit): Promise<void> {
    await this.#file?.append(lineOf(commit), this.sync);
  }

  /** Rewrites the journal as one line with everything committed so far. */
  async compact(whole: Commit): Promise<void> {
    await this.close();
    const line = lineOf(whole);
    await replaceFile(this.path, line);
    this.#file = await DurableFile.open(this.path, line.byteLength);
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
  readonly day: string;
  readonly seq: number;
  readonly ids: Set<string>;
  readonly known: Set<string>;
}

/** Restores the last committed state of the file, or creates it with its header. */
async function recover(
  path: string,
  journal: string,
  copy: string,
  { format, stateDir, log }: CommittedFileOptions,
): Promise<Found> {
  const { header } = format;
  const start = Buffer.byteLength(header);
  const size = await sizeOf(path);
  const { commit: recorded, damaged } = await lastCommit(journal);
  if (damaged) {
    const kept = `${journal}.damaged-${timestamp()}`;
    // A copy: until the journal is written anew, a start finds it as it was.
    await copyFile(journal, kept);
    log.warn(
      { path, kept },
      'the list of confirmed rows was damaged: it is kept, and a new one is made from the file and its copy',
    );
  }
  // An interrupted rotation leaves no file, or one without rows.
  const rotated = recorded?.rotating === true && size <= start && size < recorded.length;
  if (size === 0 || rotated) {
    if (!rotated) {
      if (recorded !== undefined && recorded.length > start) {
        log.warn({ path }, 'the file has been moved or deleted: a new one is started');
      }
      // A journal without its file belongs to a file that was moved. It is removed first: after a crash in between
      // there is a file without a journal, which is accepted unchanged.
      await rm(journal, { force: true });
      await syncFolder(dirname(journal));
    }
    await durably(`${format.name}.create`, () => replaceFile(path, Buffer.from(header)));
    const known = new Set(rotated ? recorded.known : []);
    const seq = recorded?.seq ?? 0;
    return { length: start, crc: crc32(header), day: today(), seq, ids: new Set(), known };
  }

  const later = await laterCommit(path, size, copy, recorded, damaged);
  if (later !== undefined && recorded !== undefined && !damaged) {
    log.warn(
      { path },
      'the state folder is older than the file (restored from a backup?): its rows are kept',
    );
  }
  const commit = later ?? recorded;
  let length = commit?.length ?? size;
  let read = await readCommitted(path, Math.min(size, length), format);
  if (commit !== undefined && (size < length || commit.crc !== read.crc)) {
    const missing = size < length && `${String(size)} of the ${String(length)} bytes that rxray left there`;
    return replaceChanged(path, journal, commit, missing, { format, log });
  }
  if (damaged && (commit === undefined || (format.holdsIds && size > length))) {
    // The rows after the last known commit may have been confirmed.
    ({ length, ...read } = await readWholeRows(path, size, commit?.length ?? 0, format));
  }
  const { crc, ids, endsRow, fault } = read;
  // What is in the state folder is the output of a part, of which only one file gets its name.
  const isPart = path.startsWith((await realPathOf(stateDir)) + sep);
  if (fault instanceof OtherColumns && commit !== undefined && !isPart) {
    return replaceOther(path, journal, commit, size, { format, log });
  }
  if (fault !== undefined)
    throw unwritable(path, `${messageOf(fault)}. Choose another path, or move the file`, fault);
  if (!endsRow)
    throw unwritable(path, 'it ends in the middle of a row. Choose another path, or move the file');
  if (size > length) await keepTail(path, length, journal, log);
  for (const id of commit?.ids ?? []) ids.add(id);
  const { day = today(), seq = 0 } = commit ?? {};
  return { length, crc, day, seq, ids, known: new Set(commit?.known) };
}

/** Keeps a file that another program has changed under another name, and starts a new one, which keeps its ids. */
async function replaceChanged(
  path: string,
  journal: string,
  commit: Commit,
  missing: string | false,
  { format, log }: Pick<CommittedFileOptions, 'format' | 'log'>,
): Promise<Found> {
  const found = await readCommitted(path, await sizeOf(path), format);
  const ids = [...found.ids];
  // The last row may be incomplete.
  if (!found.endsRow) ids.pop();
  const { kept, ...begun } = await replaceBy(format, path, journal, commit, ids);
  const what =
    missing === false
      ? 'another program has changed the file'
      : `the file has ${missing}, so rows are missing (\`run --again\` writes all films again)`;
  log.warn({ path, kept }, `${what}: it is kept under another name, and new rows go into a new file`);
  return begun;
}

/** The same for a file of ours with other columns: other stages, or another version of rxray, wrote it. */
async function replaceOther(
  path: string,
  journal: string,
  commit: Commit,
  size: number,
  { format, log }: Pick<CommittedFileOptions, 'format' | 'log'>,
): Promise<Found> {
  const { length } = commit;
  // Films whose rows were never confirmed come again, into the new file.
  if (size > length) {
    await keepTail(path, length, journal, log);
    const rows = await DurableFile.open(path, length);
    // Synced: after a crash the rows would be in the kept file, too.
    await rows.append(new Uint8Array());
    await rows.close();
  }
  const ids = new Set<string>();
  await format.scanOther?.(
    () => createReadStream(path, { end: length - 1 }),
    (id) => ids.add(id),
  );
  const { kept, ...begun } = await replaceBy(format, path, journal, commit, [...ids]);
  log.warn(
    { path, kept },
    `the columns of ${basename(path)} have changed: rows with the old ones are kept in ${basename(kept)}, and new rows go into a new file`,
  );
  return begun;
}

/** Puts the file aside and begins a new one, with the ids of the old one. */
async function replaceBy(
  { header, name }: RowFormat,
  path: string,
  journal: string,
  commit: Commit,
  ids: readonly string[],
): Promise<Found & { readonly kept: string }> {
  const known = new Set([...ids, ...(commit.ids ?? []), ...(commit.known ?? [])]);
  const seq = (commit.seq ?? 0) + 1;
  // A crash after this point leaves an interrupted rotation.
  await replaceFile(journal, lineOf({ ...commit, seq, known: [...known], rotating: true }));
  const kept = await archive(path, timestamp());
  await durably(`${name}.create`, () => replaceFile(path, Buffer.from(header)));
  return {
    ...{ length: Buffer.byteLength(header), crc: crc32(header), day: today(), seq, kept },
    ...{ ids: new Set<string>(), known },
  };
}

/**
 * Keeps the bytes after the committed rows before they are cut off: an incomplete group, or rows appended by others.
 */
async function keepTail(path: string, length: number, journal: string, log: Log): Promise<void> {
  const kept = `${journal.slice(0, -'.jsonl'.length)}.${timestamp()}.torn`;
  await pipeline(
    createReadStream(path, { start: length }),
    createWriteStream(kept, { flags: 'a', flush: true }),
  );
  await syncFolder(dirname(kept));
  log.warn(
    { path, kept },
    'the file ended with rows that rxray never confirmed: they are cut off and kept in the state folder; their films are written again',
  );
}

/** The commits after `commit` in the journal's copy beside the file, if the file has their rows. `damaged`: the journal is. */
async function laterCommit(
  path: string,
  size: number,
  copy: string,
  commit: Commit | undefined,
  damaged: boolean,
): Promise<Commit | undefined> {
  const { commit: later } = await lastCommit(copy).catch((): LastCommit => ({ damaged: true }));
  if (later === undefined || later.length > size) return undefined;
  // The copy also has the damaged part of the journal.
  const [least, found] = [commit?.seq ?? 0, later.seq ?? 0];
  if (damaged ? found < least : found <= least) return undefined;
  // Without a journal, a file with rows of others is accepted unchanged.
  if (commit === undefined && !damaged && later.length < size) return undefined;
  return (await crcOf(path, later.length)) === later.crc ? later : undefined;
}

/** Whether the file is unchanged since then. */
function isAsLeft(now: Stats, left: Stats | undefined): boolean {
  return now.size === left?.size && now.mtimeMs === left.mtimeMs && now.ctimeMs === left.ctimeMs;
}

/** The CRC-32 of the first `length` bytes. */
async function crcOf(path: string, length: number): Promise<number> {
  let crc = 0;
  if (length === 0) return crc;
  for await (const chunk of createReadStream(path, { end: length - 1 }) as AsyncIterable<Buffer>) {
    crc = crc32(chunk, crc);
  }
  return crc;
}

interface Committed {
  readonly crc: number;
  readonly ids: Set<string>;
  /** Whether the bytes end with a complete row. */
  readonly endsRow: boolean;
  readonly fault?: unknown;
}

/** Reads the first `length` bytes. */
async function readCommitted(path: string, length: number, format: RowFormat): Promise<Committed> {
  const ids = new Set<string>();
  let crc = 0;
  let last: number | undefined;
  async function* bytes(): AsyncGenerator<Buffer> {
    if (length === 0) return;
    for await (const chunk of createReadStream(path, { end: length - 1 }) as AsyncIterable<Buffer>) {
      crc = crc32(chunk, crc);
      last = chunk.at(-1);
      yield chunk;
    }
  }
  try {
    await format.scan(bytes(), (id) => ids.add(id));
  } catch (fault) {
    // The file was not read to its end.
    return { crc: await crcOf(path, length), ids, endsRow: false, fault };
  }
  return { crc, ids, endsRow: last === undefined || last === NEWLINE };
}

/** Reads a file of `size` bytes up to its last complete row, which does not end before `least`. */
async function readWholeRows(
  path: string,
  size: number,
  least: number,
  format: RowFormat,
): Promise<Committed & { readonly length: number }> {
  const start = Math.max(least, size - LAST_ROWS_BYTES);
  const end = size > start ? await buffer(createReadStream(path, { start, end: size - 1 })) : Buffer.alloc(0);
  // An incomplete row may have line ends, too: in quotes.
  for (let at = end.length, tries = 0; at > 0 && tries < LAST_ROWS; tries++) {
    at = end.lastIndexOf(NEWLINE, at - 1);
    if (at === -1) break;
    const length = start + at + 1;
    const read = await readCommitted(path, length, format);
    if (read.fault === undefined) return { ...read, length };
  }
  const length = least > 0 ? least : size;
  return { ...(await readCommitted(path, length, format)), length };
}

interface LastCommit {
  readonly commit?: Commit;
  /** Whether lines cannot be read, other than an incomplete last one. */
  readonly damaged: boolean;
}

async function lastCommit(journal: string): Promise<LastCommit> {
  const text = await readFile(journal, 'utf8').catch((error: unknown) => {
    if (isCode(error, 'ENOENT')) return '';
    throw error;
  });
  // Text after the last line end is an incomplete line that was never confirmed.
  const lines = text.split('\n').slice(0, -1);
  const commits = lines.map(commitIn).filter((each) => each !== undefined);
  const damaged = commits.length < Math.max(lines.length, Math.min(1, text.length));
  const last = commits.at(-1);
  if (last === undefined) return { damaged };
  const commit = {
    ...last,
    ids: commits.flatMap(({ ids = [] }) => ids),
    known: commits.flatMap(({ known = [] }) => known),
  };
  return { commit, damaged };
}

function commitIn(line: string): Commit | undefined {
  try {
    const commit = JSON.parse(line) as Commit | null;
    return typeof commit?.length === 'number' && typeof commit.crc === 'number' ? commit : undefined;
  } catch {
    return undefined;
  }
}

async function sizeOf(path: string): Promise<number> {
  const found = await statOf(path);
  if (found?.isFile() === false) {
    throw unwritable(path, 'expected a file, or nothing, but it is a folder, a pipe or a device');
  }
  return found?.size ?? 0;
}

async function statOf(path: string): Promise<Stats | undefined> {
  return stat(path).catch((error: unknown) => {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  });
}

/** `results.csv` becomes `results.<tag>.csv`, or where that is taken `results.<tag>-1.csv`, … */
async function archive(path: string, tag: string): Promise<string> {
  const { dir, name, ext } = parsePath(path);
  let kept = join(dir, `${name}.${tag}${ext}`);
  for (let n = 1; (await statOf(kept)) !== undefined; n++) kept = join(dir, `${name}.${tag}-${n}${ext}`);
  await rename(path, kept);
  await syncFolder(dir);
  return kept;
}

const today = (): string => new Date().toISOString().slice(0, 10);

const timestamp = (): string => new Date().toISOString().replaceAll(/[:.]/g, '-');

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

function unwritable(path: string, reason: string, cause?: unknown): RxrayError {
  return new RxrayError('OUTPUT_UNWRITABLE', `${path} cannot be written: ${reason}`, { cause });
}
