import { createHash, randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import {
  type FileHandle,
  lstat,
  mkdir,
  open,
  opendir,
  readdir,
  realpath,
  rename,
  rm,
  statfs,
} from 'node:fs/promises';
import { join } from 'node:path';
import { durably } from '../../core/durable.js';
import { syncFolder } from '../../core/files.js';
import type { Candidate } from '../../core/plugin.js';
import { STATUS } from '../../dicom/pdu.js';
import { type Identity, metaHeader } from '../../dicom/part10.js';
import type { Receipt } from '../../dicom/scp.js';

/** `3f/1.2.840.…-0123456789abcdef.dcm`: by the instance's UID and the hash of the file. */
const STORED = /^[0-9a-f]{2}\/[\d.]{1,64}-[0-9a-f]{16}\.dcm$/;
const UID = /^(?!\.)[\d.]{1,64}$/;
/** After this many bytes of one object, the free space of the disk is checked again. */
const CHECK_EVERY = 16 * 1024 * 1024;
/** The folder for objects that are being received. */
const PARTS = '.incoming';

export interface IncomingOptions {
  /** The longest object, in bytes. */
  readonly maxBytes: number;
  /** Objects are refused while the disk has less free space than this. */
  readonly minFreeBytes: number;
  /** Called with each new file when it is durable. */
  readonly onStored: (candidate: Candidate) => void;
}

/**
 * The folder of the objects that were received, as DICOM files.
 *
 * A file's name is derived from its instance UID and its bytes: an object that is sent again is the same file, and another
 * object with the same UID overwrites nothing. A file appears under its name when it is durable.
 */
export class IncomingFolder {
  /** Renames in progress, by the new name: the same object may arrive twice at the same time. */
  readonly #keeping = new Map<string, Promise<void>>();

  private constructor(
    readonly root: string,
    private readonly options: IncomingOptions,
  ) {}

  /** Creates the folder, and removes incomplete files of an earlier process. */
  static async open(folder: string, options: IncomingOptions): Promise<IncomingFolder> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const root = await realpath(folder);
    await rm(join(root, PARTS), { recursive: true, force: true });
    await mkdir(join(root, PARTS), { mode: 0o700 });
    return new IncomingFolder(root, options);
  }

  /** Whether a file of this name, with forward slashes, is one of ours. */
  static holds(name: string): boolean {
    return STORED.test(name);
  }

  /** All received files. */
  async *files(): AsyncGenerator<Candidate> {
    for (const entry of await readdir(this.root, { withFileTypes: true })) {
      if (!entry.isDirectory() || !/^[0-9a-f]{2}$/.test(entry.name)) continue;
      for await (const file of await opendir(join(this.root, entry.name))) {
        const found = await this.look(`${entry.name}/${file.name}`);
        if (found !== undefined) yield found;
      }
    }
  }

  /** The file of this name; undefined if there is none. */
  async look(name: string): Promise<Candidate | undefined> {
    const info = STORED.test(name) ? await lstat(join(this.root, name)).catch(() => undefined) : undefined;
    return info?.isFile() === true ? this.#candidate(name, info) : undefined;
  }

  /** Deletes a file, unless another one has replaced it. */
  async remove({ name, size, mtimeMs, ino }: Candidate): Promise<void> {
    const found = await this.look(name);
    if (found?.size !== size || found.mtimeMs !== mtimeMs || found.ino !== ino) return;
    await rm(join(this.root, name), { force: true });
  }

  /** Begins to receive an object, or refuses it with a status. */
  async receive(identity: Identity): Promise<Receipt | number> {
    // An invalid UID must not become a path.
    if (!UID.test(identity.instance)) return STATUS.invalidInstance;
    if (await this.#isFull()) return STATUS.outOfResources;
    const part = join(this.root, PARTS, `${randomBytes(8).toString('hex')}.part`);
    try {
      const handle = await open(part, 'wx', 0o600);
      const incoming = new Incoming(part, handle, this.options.maxBytes, {
        isFull: () => this.#isFull(),
        keep: (hash) => this.#keep(part, `${identity.instance}-${hash}.dcm`),
      });
      await incoming.write(metaHeader(identity));
      return incoming;
    } catch {
      return STATUS.outOfResources;
    }
  }

  async #isFull(): Promise<boolean> {
    const { bavail, bsize } = await statfs(this.root);
    return bavail * bsize < this.options.minFreeBytes;
  }

  async #keep(part: string, file: string): Promise<void> {
    const before = this.#keeping.get(file) ?? Promise.resolve();
    const kept = before.catch(() => undefined).then(() => this.#keepNow(part, file));
    this.#keeping.set(file, kept);
    await kept.finally(() => {
      if (this.#keeping.get(file) === kept) this.#keeping.delete(file);
    });
  }

  async #keepNow(part: string, file: string): Promise<void> {
    const folder = createHash('sha256').update(file).digest('hex').slice(0, 2);
    const name = `${folder}/${file}`;
    // The same bytes: it was sent again.
    if ((await this.look(name)) !== undefined) {
      await rm(part, { force: true });
      return;
    }
    const made = await mkdir(join(this.root, folder), { recursive: true, mode: 0o700 });
    await durably('dimse.rename', () => rename(part, join(this.root, name)));
    await durably('dimse.sync', () => syncFolder(join(this.root, folder)));
    if (made !== undefined) await syncFolder(this.root);
    const stored = await this.look(name);
    if (stored !== undefined) this.options.onStored(stored);
  }

  #candidate(name: string, { size, mtimeMs, ino, ctimeMs }: Stats): Candidate {
    return { path: join(this.root, name), name, size, mtimeMs, ino, ctimeMs, within: this.root };
  }
}

/** One object that is being written. After a failed write, the rest is dropped. */
class Incoming implements Receipt {
  readonly #hash = createHash('sha256');
  #size = 0;
  /** Bytes since the last check of the disk's free space. */
  #unchecked = 0;
  #status: number = STATUS.success;

  constructor(
    private readonly part: string,
    private readonly handle: FileHandle,
    private readonly maxBytes: number,
    private readonly place: { isFull(): Promise<boolean>; keep(hash: string): Promise<void> },
  ) {}

  async write(bytes: Buffer): Promise<void> {
    if (this.#status !== STATUS.success) return;
    this.#size += bytes.length;
    if (this.#size > this.maxBytes) {
      this.#status = STATUS.processingFailure;
      return;
    }
    this.#hash.update(bytes);
    try {
      for (let at = 0; at < bytes.length;) {
        at += (await this.handle.write(bytes, at)).bytesWritten;
      }
      this.#unchecked += bytes.length;
      if (this.#unchecked < CHECK_EVERY) return;
      this.#unchecked = 0;
      if (await this.place.isFull()) this.#status = STATUS.outOfResources;
    } catch {
      this.#status = STATUS.outOfResources;
    }
  }

  async commit(): Promise<number> {
    if (this.#status === STATUS.success) {
      try {
        await durably('dimse.fsync', () => this.handle.sync());
        await this.handle.close();
        await this.place.keep(this.#hash.digest('hex').slice(0, 16));
        return STATUS.success;
      } catch {
        this.#status = STATUS.outOfResources;
      }
    }
    await this.discard();
    return this.#status;
  }

  async discard(): Promise<void> {
    await this.handle.close().catch(() => undefined);
    await rm(this.part, { force: true }).catch(() => undefined);
  }
}
