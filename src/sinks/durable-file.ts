import { constants, type Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

/** Windows truncates no file that was opened for appending. */
const APPENDS = process.platform !== 'win32';

/**
 * A file that grows by complete, synced groups. The rest of a failed group is cut off before the next one is written,
 * so that only complete groups are before {@link length}. Groups go to the end of the file: if another program has changed
 * its length meanwhile, none is written into other rows.
 */
export class DurableFile {
  readonly #handle: FileHandle;
  #length: number;
  /** Whether there may be bytes after the last complete group. */
  #torn = false;

  private constructor(handle: FileHandle, length: number) {
    this.#handle = handle;
    this.#length = length;
  }

  /** Opens or creates `path` and truncates it to `length` bytes. */
  static async open(path: string, length: number): Promise<DurableFile> {
    const handle = await open(
      path,
      constants.O_RDWR | constants.O_CREAT | (APPENDS ? constants.O_APPEND : 0),
      0o666,
    );
    await handle.truncate(length);
    return new DurableFile(handle, length);
  }

  /** Bytes written and synced. */
  get length(): number {
    return this.#length;
  }

  /** Whether a group failed, so that there may be bytes after the last complete one. */
  get torn(): boolean {
    return this.#torn;
  }

  /** The state of the open file, whatever is at its path now. */
  stat(): Promise<Stats> {
    return this.#handle.stat();
  }

  /** Resolves when the bytes are on the disk (without `sync`: in the file). If it rejects, none of them count. */
  async append(bytes: Uint8Array, sync = true): Promise<void> {
    if (this.#torn) await this.#handle.truncate(this.#length);
    this.#torn = true;
    let written = 0;
    while (written < bytes.byteLength) {
      const { bytesWritten } = await this.#handle.write(
        bytes,
        written,
        bytes.byteLength - written,
        APPENDS ? null : this.#length + written,
      );
      written += bytesWritten;
    }
    if (sync) await this.#handle.datasync();
    this.#torn = false;
    this.#length += written;
  }

  /** Removes everything after the first `length` bytes. */
  cut(length: number): void {
    this.#length = length;
    this.#torn = true;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
