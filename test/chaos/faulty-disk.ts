/**
 * A disk in memory that behaves as badly as POSIX allows, in place of `node:fs` and `node:fs/promises`.
 *
 * What is written becomes durable when the file is synced, what is created, renamed or removed when the folder
 * is. When the machine stops, any part of the rest may have reached the disk, in any order, the last write torn.
 * Any deed may fail, be it for want of space (with half of a write done) or with an I/O error; a sync that
 * fails may lose what it was to sync, as Linux does (a later sync reports success all the same), or not.
 */
import { constants } from 'node:fs';
import { basename, dirname } from 'node:path';
import { Readable, Writable } from 'node:stream';

export { constants };

class File {
  static count = 0;
  readonly ino = ++File.count;
  data: Buffer = Buffer.alloc(0);
  durable: Buffer = Buffer.alloc(0);
  /** What the cache holds and the disk may not have. */
  pending: ((data: Buffer, upTo: number) => Buffer)[] = [];

  change(apply: (data: Buffer, upTo: number) => Buffer): void {
    this.data = apply(this.data, 1);
    this.pending.push(apply);
  }
}

type Entries = Map<string, Node>;
class Folder {
  readonly ino = ++File.count;
  entries: Entries = new Map();
  durable: Entries = new Map();
  pending: ((entries: Entries) => void)[] = [];

  change(apply: (entries: Entries) => void): void {
    apply(this.entries);
    this.pending.push(apply);
  }
}
type Node = File | Folder;

export type Fault = 'ENOSPC' | 'EIO' | 'stop';

/** What goes wrong, by the number of the deed, counted from the last `plan`. */
let faults: ReadonlyMap<number, Fault> = new Map();
let deeds = 0;
let luck = (): number => 0;
/** The machine has stopped: nothing happens any more. */
let stopped = false;
let root = new Folder();
let onStop = (): void => undefined;

/** An empty disk. */
export function format(): void {
  root = new Folder();
  void plan(new Map());
}

/** From now on deeds fail so; `chance` decides what nobody can know. Resolves when the machine stops at one of them: no promise of that deed settles. */
export function plan(next: ReadonlyMap<number, Fault>, chance = () => 0): Promise<void> {
  faults = next;
  luck = chance;
  deeds = 0;
  stopped = false;
  return new Promise((resolve) => (onStop = resolve));
}

/** The machine starts again after a stop. */
export function restart(): void {
  const chance = luck;
  const revive = (node: Node): Node => {
    if (node instanceof File) {
      const file = new File();
      file.data = Buffer.from(node.durable);
      for (const apply of node.pending) {
        if (chance() < 0.5) file.data = apply(file.data, chance() < 0.5 ? 1 : chance());
      }
      file.durable = Buffer.from(file.data);
      return file;
    }
    const entries: Entries = new Map(node.durable);
    for (const apply of node.pending) if (chance() < 0.5) apply(entries);
    const folder = new Folder();
    for (const [name, child] of entries) folder.entries.set(name, revive(child));
    folder.durable = new Map(folder.entries);
    return folder;
  };
  root = revive(root) as Folder;
  void plan(new Map());
}

function failure(code: string, deed: string, path = ''): Error {
  return Object.assign(new Error(`${code}: ${deed} '${path}'`), { code });
}

/** Every deed comes by here: it may fail, or be the last. */
async function deed<T>(
  name: string,
  act: () => T,
  onFault: (fault: Fault) => void = () => undefined,
): Promise<T> {
  await Promise.resolve();
  deeds += 1;
  const fault = faults.get(deeds);

  if (!stopped && fault === undefined) return act();
  if (!stopped && fault !== undefined) {
    onFault(fault);
    if (fault !== 'stop') throw failure(fault, name);
    stopped = true;
    onStop();
  }
  return new Promise(() => undefined);
}

// ── paths ───────────────────────────────────────────────────────────────────────────────────────────

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '');

function find(path: string): Node | undefined {
  let node: Node | undefined = root;
  for (const part of partsOf(path)) node = node instanceof Folder ? node.entries.get(part) : undefined;
  return node;
}

function get(path: string): Node {
  const node = find(path);
  if (node === undefined) throw failure('ENOENT', 'no such file or directory', path);
  return node;
}

function folderAt(path: string): Folder {
  const node = get(path);
  if (node instanceof File) throw failure('ENOTDIR', 'not a directory', path);
  return node;
}

function fileAt(path: string): File {
  const node = get(path);
  if (node instanceof Folder) throw failure('EISDIR', 'is a directory', path);
  return node;
}

const parentOf = (path: string): Folder => folderAt(dirname(path));
const put = (path: string, node: Node): void =>
  parentOf(path).change((entries) => void entries.set(basename(path), node));

// ── node:fs/promises ────────────────────────────────────────────────────────────────────────────────

type Flags = string | number;
const { O_CREAT, O_TRUNC, O_EXCL } = constants;
const FLAGS: Readonly<Record<string, number>> = {
  r: 0,
  'r+': constants.O_RDWR,
  w: O_CREAT | O_TRUNC,
  wx: O_CREAT | O_EXCL,
  a: O_CREAT,
};

export async function open(path: string, flags: Flags = 'r'): Promise<Handle> {
  const wanted = typeof flags === 'number' ? flags : (FLAGS[flags] ?? 0);
  return deed('open', () => {
    let node = find(path);
    if (node !== undefined && (wanted & O_EXCL) !== 0) throw failure('EEXIST', 'open', path);
    if (node === undefined) {
      if ((wanted & O_CREAT) === 0) throw failure('ENOENT', 'open', path);
      node = new File();
      put(path, node);
    }
    if (node instanceof File && (wanted & O_TRUNC) !== 0) node.change(() => Buffer.alloc(0));
    return new Handle(node);
  });
}

class Handle {
  constructor(private readonly node: Node) {}

  get #file(): File {
    if (this.node instanceof Folder) throw failure('EISDIR', 'write');
    return this.node;
  }

  write(
    bytes: Uint8Array,
    offset: number,
    length: number,
    position: number | null,
  ): Promise<{ bytesWritten: number }> {
    const copy = Buffer.from(bytes.subarray(offset, offset + length));
    const put = (count: number): void => {
      // Null: a file opened with O_APPEND.
      const from = position ?? this.#file.data.length;
      this.#file.change((data, upTo) => {
        const part = copy.subarray(0, Math.floor(count * upTo));
        const grown = Buffer.alloc(Math.max(data.length, from + part.length));
        data.copy(grown);
        part.copy(grown, from);
        return grown;
      });
    };
    return deed(
      'write',
      () => {
        put(length);
        return { bytesWritten: length };
      },
      () => {
        put(Math.floor(length / 2));
      },
    );
  }

  async writeFile(data: Uint8Array | string): Promise<void> {
    const bytes = Buffer.from(data);
    await this.write(bytes, 0, bytes.length, 0);
  }

  async read(
    target: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesRead: number }> {
    const part = this.#file.data.subarray(position, position + length);
    target.set(part, offset);
    return { bytesRead: part.length };
  }

  truncate(length: number): Promise<void> {
    return deed('truncate', () => {
      this.#file.change((data) => Buffer.concat([data, Buffer.alloc(length)]).subarray(0, length));
    });
  }

  sync(): Promise<void> {
    const { node } = this;
    return deed(
      'sync',
      () => {
        if (node instanceof File) {
          for (const apply of node.pending) node.durable = apply(node.durable, 1);
        } else {
          for (const apply of node.pending) apply(node.durable);
        }
        node.pending = [];
      },
      (fault) => {
        // The pages of a file are marked clean, whether they came to the disk or not.
        if (fault === 'stop' || !(node instanceof File)) return;
        if (luck() < 0.5) for (const apply of node.pending) node.durable = apply(node.durable, 1);
        node.pending = [];
      },
    );
  }

  datasync(): Promise<void> {
    return this.sync();
  }

  async stat(): Promise<Stats> {
    return statsOf(this.node);
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}

interface Stats {
  readonly size: number;
  readonly ino: number;
  readonly dev: number;
  readonly mtimeMs: number;
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
}

const statsOf = (node: Node): Stats => ({
  size: node instanceof File ? node.data.length : 0,
  ino: node.ino,
  dev: 1,
  mtimeMs: 0,
  isFile: () => node instanceof File,
  isDirectory: () => node instanceof Folder,
  isSymbolicLink: () => false,
});

export async function stat(path: string): Promise<Stats> {
  return statsOf(get(path));
}

export { stat as lstat };

export async function realpath(path: string): Promise<string> {
  get(path);
  return path;
}

export async function mkdir(path: string, options: { recursive?: boolean } = {}): Promise<void> {
  await deed('mkdir', () => {
    const parts = partsOf(path);
    for (let depth = options.recursive ? 1 : parts.length; depth <= parts.length; depth += 1) {
      const dir = `/${parts.slice(0, depth).join('/')}`;
      const there = find(dir);
      if (there === undefined) put(dir, new Folder());
      else if (!options.recursive) throw failure('EEXIST', 'mkdir', path);
    }
  });
}

export async function rename(from: string, to: string): Promise<void> {
  await deed('rename', () => {
    const node = get(from);
    const there = find(to);
    if (there instanceof Folder && there.entries.size > 0) throw failure('ENOTEMPTY', 'rename', to);
    if (parentOf(from) !== parentOf(to)) throw new Error('this disk renames within a folder only');
    parentOf(to).change((entries) => {
      entries.delete(basename(from));
      entries.set(basename(to), node);
    });
  });
}

export async function rm(
  path: string,
  options: { recursive?: boolean; force?: boolean } = {},
): Promise<void> {
  await deed('rm', () => {
    const node = find(path);
    if (node === undefined && options.force) return;
    if (get(path) instanceof Folder && !options.recursive) throw failure('EISDIR', 'rm', path);
    parentOf(path).change((entries) => void entries.delete(basename(path)));
  });
}

export const unlink = (path: string): Promise<void> => rm(path);

export async function link(from: string, to: string): Promise<void> {
  await deed('link', () => {
    if (find(to) !== undefined) throw failure('EEXIST', 'link', to);
    put(to, fileAt(from));
  });
}

export async function readdir(path: string): Promise<string[]> {
  return [...folderAt(path).entries.keys()];
}

export async function readFile(path: string, encoding?: 'utf8'): Promise<string | Buffer> {
  const { data } = fileAt(path);
  return encoding === undefined ? Buffer.from(data) : data.toString(encoding);
}

export async function writeFile(
  path: string,
  data: Uint8Array | string,
  options: { flush?: boolean; flag?: string } = {},
): Promise<void> {
  const handle = await open(path, options.flag ?? 'w');
  await handle.writeFile(data);
  if (options.flush) await handle.sync();
}

export async function copyFile(from: string, to: string): Promise<void> {
  await writeFile(to, fileAt(from).data);
}

// ── node:fs ─────────────────────────────────────────────────────────────────────────────────────────

export function createReadStream(
  path: string,
  { start = 0, end = Infinity }: { start?: number; end?: number } = {},
): Readable {
  return Readable.from([Buffer.from(fileAt(path).data.subarray(start, end + 1))], { objectMode: false });
}

export function createWriteStream(path: string, options: { flags?: string; flush?: boolean } = {}): Writable {
  const opened = open(path, options.flags ?? 'w');
  opened.catch(() => undefined);
  let position = find(path) instanceof File && options.flags === 'a' ? fileAt(path).data.length : 0;
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      opened
        .then((handle) => handle.write(chunk, 0, chunk.length, position))
        .then(
          ({ bytesWritten }) => {
            position += bytesWritten;
            done();
          },
          (error: unknown) => done(error as Error),
        );
    },
    final(done) {
      opened
        .then((handle) => (options.flush ? handle.sync() : undefined))
        .then(
          () => done(),
          (error: unknown) => done(error as Error),
        );
    },
  });
}
