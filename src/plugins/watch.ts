import { isUtf8 } from 'node:buffer';
import { constants, type Stats } from 'node:fs';
import { access, lstat, opendir, readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import chokidar, { type FSWatcher } from 'chokidar';
import picomatch from 'picomatch';
import { Observable } from 'rxjs';
import { z } from 'zod';
import { messageOf, RxrayError } from '../core/errors.js';
import { codeOf, isCode, realPathOf } from '../core/files.js';
import { isClutter, isNoImage } from '../core/no-image.js';
import { type Candidate, defineSource, MAX_TIMER_MS, type SourceServices } from '../core/plugin.js';
import { isAbandoned, ownerTag, putAway, restore } from './watch/put-away.js';

const globs = z.array(z.string().min(1));
const EVERY_FILE = ['**/*'];

const options = z
  .strictObject({
    path: z.string().min(1).describe('The folder, relative to the pipeline file.'),
    include: globs
      .default(EVERY_FILE)
      .describe(
        'Globs of the files to take, relative to the folder. `decode` recognises formats by content. By default every file, ' +
          'except what is known to be no image by its name (`Thumbs.db`, `DICOMDIR`, `.txt`, `.csv`, …): that is left alone and counted.',
      ),
    exclude: globs
      .default(['**/*.{part,partial,filepart,tmp,crdownload}'])
      .describe('Globs of the files to ignore. Names that begin with a dot are always ignored.'),
    recursive: z.boolean().default(true).describe('Also take files in subfolders.'),
    settleMs: z
      .int()
      .min(0)
      .max(MAX_TIMER_MS)
      .default(500)
      .describe('A file is complete when its size and time have not changed for this long.'),
    scanMs: z
      .int()
      .min(10)
      .max(MAX_TIMER_MS)
      .default(5000)
      .describe(
        'Interval of scans of the whole folder, which find files that the operating system did not announce.',
      ),
    giveUpAfterMs: z
      .int()
      .min(0)
      .max(MAX_TIMER_MS)
      .default(60_000)
      .describe(
        'With --once: how many milliseconds to wait for files that keep changing. They are then reported, and the exit code is 1.',
      ),
    polling: z
      .boolean()
      .default(false)
      .describe('Poll the folders for changes, for network drives without notifications. Uses more CPU.'),
    onDone: z
      .enum(['keep', 'move', 'delete'])
      .default('keep')
      .describe(
        'What happens to the file of a done film. A failed one stays, and the dead letter has a copy.',
      ),
    moveTo: z
      .string()
      .min(1)
      .optional()
      .describe('The folder for `onDone: move`. Subfolders are kept; existing files are never overwritten.'),
  })
  .refine(
    ({ onDone, moveTo }) => (onDone === 'move') === (moveTo !== undefined),
    '`onDone: move` and `moveTo` go together: give both or neither',
  );
export type WatchOptions = z.output<typeof options>;

export default defineSource({
  name: 'watch',
  summary: 'Takes all files of a folder, present and future ones.',
  options,
  examples: [
    { title: 'A folder', with: { path: './inbox' } },
    {
      title: 'PNG and DICOM files of a network drive, moved when done',
      with: {
        path: '/mnt/films',
        include: ['**/*.{png,dcm}'],
        polling: true,
        settleMs: 3000,
        onDone: 'move',
        moveTo: '/mnt/films-done',
      },
    },
  ],
  async lint({ path, moveTo }, { baseDir }) {
    try {
      await archiveOf(resolve(baseDir, path), moveTo && resolve(baseDir, moveTo));
      return [];
    } catch (error) {
      return [{ severity: 'error', option: ['moveTo'], message: messageOf(error) }];
    }
  },
  async takes({ path, include, exclude, recursive, moveTo }, file, baseDir) {
    const root = resolve(baseDir, path);
    const name = relative(await realPathOf(root), await realPathOf(file));
    if (name === '' || name.split(sep)[0] === '..' || isAbsolute(name)) return false;
    const archive = await archiveOf(root, moveTo && resolve(baseDir, moveTo)).catch(() => undefined);
    if (archive !== undefined && join(root, name).startsWith(archive + sep)) return false;
    const posix = name.split(sep).join('/');
    if (isHidden(posix) || (!recursive && posix.includes('/'))) return false;
    return picomatch(include, { ignore: exclude, nocase: true })(posix);
  },
  onlyLooks: true,
  /** A file is taken by its name alone, out of its folder. */
  async input(path) {
    const isFile = await stat(path).then(
      (info) => info.isFile(),
      () => false,
    );
    if (!isFile) return { path };
    const name = basename(path).replaceAll(/[\\*?[\](){}!@+|^$]/g, '\\$&');
    return { path: dirname(path), include: [name], exclude: [], recursive: false };
  },
  async create(settings, services) {
    const { id, once, log } = services;
    const root = services.resolve(settings.path);
    const found = await stat(root).catch(() => undefined);
    if (found?.isDirectory() === false) {
      throw new RxrayError('CONFIG_CREATE', `\`path\` must be a folder, ${root} is a file`);
    }
    if (found !== undefined) {
      await access(root, constants.R_OK | constants.X_OK).catch((cause: unknown) => {
        throw new RxrayError('CONFIG_CREATE', `the folder ${root} may not be read (\`path\`)`, { cause });
      });
    }
    if (found === undefined && once) {
      throw new RxrayError('CONFIG_CREATE', `the folder ${root} does not exist (\`path\`)`);
    }
    if (found === undefined) log.warn({ source: id }, 'the folder does not exist yet: waiting for it');
    const archive = await archiveOf(root, settings.moveTo && services.resolve(settings.moveTo));
    const tag = ownerTag(services.stateDir, id);
    let ended = Promise.resolve();
    let watch: FolderWatch | undefined;
    return {
      candidates$: new Observable((subscriber) => {
        const folder = new FolderWatch(root, archive, settings, services, (file) => {
          subscriber.next(file);
        });
        watch = folder;
        ended = folder.run().then(
          () => {
            subscriber.complete();
          },
          (error: unknown) => {
            subscriber.error(error);
          },
        );
        return () => {
          folder.stop();
        };
      }),
      dispose: () => ended,
      look: async (name) => {
        const path = join(root, name);
        const info = await lstat(path).catch(() => undefined);
        return info && candidateOf(await realpath(root), path, name, info);
      },
      settle: async (candidate, outcome, sha256) => {
        if (outcome === 'failed' || settings.onDone === 'keep') return;
        const archived = archive && join(archive, candidate.name);
        await within(SETTLE_UP_TO_MS, putAway(candidate, { sha256, archived, tag }));
      },
      lost: ({ path, name }) => {
        watch?.lookAgain(path, name);
      },
    };
  },
});

/** The last seen state of a file. */
interface Sighting {
  readonly candidate: Candidate;
  /** When this state was first seen (monotonic, ms). */
  readonly since: number;
  /** The scan that last found it. */
  scan: number;
}

/** Time limit for moving a film to the archive: a network share may not respond. */
const SETTLE_UP_TO_MS = 60_000;
/** A scan that takes longer is logged. */
const SLOW_SCAN_MS = 60_000;

/** With `once`: after this time, waiting for incomplete files is logged. */
const TELL_AFTER_MS = 5000;
const WAITING = 'waiting';

/** Files checked together: enough to keep the disk busy, few enough not to block the thread. */
const AT_ONCE = 32;

/**
 * Offers every complete file, once per size, modification time, inode and change time. Notifications of the operating
 * system are fast but unreliable hints; scans find everything. With `once`, ends after a scan without unsettled files;
 * otherwise when it is stopped. All handles are then closed.
 */
class FolderWatch {
  /** Every file in the folder, by name. */
  readonly #seen = new Map<string, Sighting>();
  /** Files that may still change, the longest unchanged first. */
  readonly #restless = new Map<string, Sighting>();
  /** Paths that were announced. */
  #hints = new Set<string>();
  #watcher: FSWatcher | undefined;
  /** Identity of the watched folder: a new folder may have the same path. */
  #watched = '';
  /** The folder with links resolved. */
  #realRoot = '';
  #scan = 0;
  /** Warns of a scan that does not get on. */
  #slow: NodeJS.Timeout | undefined;
  #stopped = false;
  /** Why no films can be offered now. */
  #outage: string | null = null;
  /** Why the folder itself could not be read. */
  #unreadable: string | null = null;
  #wake = (): void => undefined;
  readonly #warned = new Set<string>();
  readonly #unreadNames = new Set<string>();
  /** Files that are known to be no images. */
  readonly #noImages = new Set<string>();
  readonly #takesEveryFile: boolean;
  readonly #matches: (name: string) => boolean;
  readonly #tag: string;

  constructor(
    readonly root: string,
    readonly archive: string | undefined,
    readonly settings: WatchOptions,
    readonly services: SourceServices,
    readonly offer: (candidate: Candidate) => void,
  ) {
    this.#matches = picomatch(settings.include, { ignore: settings.exclude, nocase: true });
    this.#takesEveryFile = settings.include.join() === EVERY_FILE.join();
    this.#tag = ownerTag(services.stateDir, services.id);
  }

  async run(): Promise<void> {
    const { settleMs, scanMs, giveUpAfterMs } = this.settings;
    const { once } = this.services;
    const started = performance.now();
    try {
      while (!this.#isStopped()) {
        await this.#lookAtAll();
        if (once && this.#restless.size === 0) return;
        const waited = performance.now() - started;
        if (once && waited >= giveUpAfterMs) {
          for (const name of this.#restless.keys()) this.#unread(name, 'the file keeps changing');
          return;
        }
        if (once && waited >= TELL_AFTER_MS) this.#tellOfWaiting();
        const next = performance.now() + (once ? settleMs : scanMs);
        for (let now = performance.now(); now < next && !this.#isStopped(); now = performance.now()) {
          await this.#sleep(Math.min(next, this.#firstDue()) - now);
          await this.#lookAtSome();
        }
      }
    } finally {
      await this.#watcher?.close();
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#wake();
  }

  /** It was offered, and changed before it was read. */
  lookAgain(path: string, name: string): void {
    // The host has waited for it.
    if (this.services.once)
      this.#unread(name, 'the file was removed, or kept changing, before it could be read');
    this.#forget(name);
    this.#hints.add(path);
    this.#wake();
  }

  #isStopped(): boolean {
    return this.#stopped;
  }

  // ── looking ─────────────────────────────────────────────────────────────────────────────────────

  async #lookAtAll(): Promise<void> {
    this.#scan += 1;
    const slow = (this.#slow = setTimeout(() => {
      const message = 'reading the folder has taken a minute so far: check its disk or network share';
      this.#warn('', message, '');
      this.#tellOutage(message);
    }, SLOW_SCAN_MS).unref());
    try {
      if (!(await this.#watchRoot())) {
        this.#tellOutage('the folder is gone');
        if (this.services.once) this.#unread('', 'the folder is gone');
        this.#seen.clear();
        this.#restless.clear();
        return;
      }
      this.#unreadable = null;
      await this.#lookAt(this.#walk(this.root));
      this.#tellOutage(this.#unreadable);
    } finally {
      clearTimeout(slow);
      this.#slow = undefined;
    }
    for (const [name, { scan }] of this.#seen) if (scan < this.#scan) this.#forget(name);
  }

  /** Announced files, and files that should be complete by now. */
  async #lookAtSome(): Promise<void> {
    const paths = this.#hints;
    this.#hints = new Set();
    const due = performance.now() - this.settings.settleMs;
    for (const { candidate, since } of this.#restless.values()) {
      if (since > due) break;
      paths.add(candidate.path);
    }
    await this.#lookAt(paths);
  }

  async #lookAt(paths: Iterable<string> | AsyncIterable<string>): Promise<void> {
    let some: string[] = [];
    const look = async (): Promise<void> => {
      const files = await Promise.all(some.map((path) => this.#lookAtOne(path)));
      // A large folder takes long, which is no problem while it responds.
      this.#slow?.refresh();
      some = [];
      const settled = files.filter((file) => file !== undefined);
      if (settled.length === 0) return;
      for (const file of await this.services.unsettled(settled)) this.offer(file);
    };
    for await (const path of paths) {
      if (this.#stopped) return;
      if (some.push(path) === AT_ONCE) await look();
    }
    await look();
  }

  /** The file at `path`, if it has not changed since the last check. */
  async #lookAtOne(path: string): Promise<Candidate | undefined> {
    const name = this.#nameOf(path);
    const info = await lstat(path).catch(() => undefined);
    if (info?.isDirectory() === true) {
      this.#forget(name);
      // A new folder: files that were already in it are not announced.
      if (this.#enters(path)) await this.#lookAt(this.#walk(path));
      return undefined;
    }
    if (!this.#wants(name)) return undefined;
    if (info !== undefined && this.#takesEveryFile && isNoImage(name)) {
      this.#leaveAlone(name);
      return undefined;
    }
    if (info === undefined) {
      if (await isMisnamed(path)) this.#unread(name, 'a file has a name that is not UTF-8: rename it');
      this.#forget(name);
      return undefined;
    }
    const candidate = await candidateOf(this.#realRoot, path, name, info);
    if (candidate !== undefined) return this.#note(candidate);
    this.#forget(name);
    return undefined;
  }

  #leaveAlone(name: string): void {
    if (this.#noImages.has(name)) return;
    this.#noImages.add(name);
    this.services.leftAlone(1);
  }

  #tellOutage(reason: string | null): void {
    if (reason === this.#outage) return;
    this.#outage = reason;
    this.services.outage(reason);
  }

  #tellOfWaiting(): void {
    if (this.#warned.has(WAITING)) return;
    this.#warned.add(WAITING);
    const { id: source, log } = this.services;
    const files = this.#restless.size;
    log.warn(
      { source, files, upToMs: this.settings.giveUpAfterMs },
      'waiting for files that are still being written',
    );
  }

  /** Reports a file or folder that cannot be taken, once per name. Names are shown to the user, not logged. */
  #unread(name: string, reason: string, cause?: unknown): void {
    const shown = name === '' ? '.' : name;
    if (this.#unreadNames.has(shown)) return;
    this.#unreadNames.add(shown);
    const code = codeOf(cause);
    const told = code === undefined ? reason : `${reason} (${code})`;
    const { id: source, log } = this.services;
    log.warn({ source }, told);
    log.debug({ source, name: shown }, `${told}: ${messageOf(cause)}`);
    this.services.unread(shown, told);
  }

  /** Records the state of the file, and returns it if it has not changed for long enough. */
  #note(candidate: Candidate): Candidate | undefined {
    const { name, mtimeMs } = candidate;
    const { settleMs } = this.settings;
    const now = performance.now();
    const before = this.#seen.get(name);
    if (before !== undefined && isUnchanged(before.candidate, candidate)) {
      before.scan = this.#scan;
      if (!this.#restless.has(name) || now - before.since < settleMs) return undefined;
      this.#restless.delete(name);
      return candidate;
    }
    const sighting = { candidate, since: now, scan: this.#scan };
    this.#seen.set(name, sighting);
    this.#restless.delete(name);
    // Old files that were present at the start are complete. Later files may arrive with an old mtime.
    if (this.#scan === 1 && Date.now() - mtimeMs > settleMs) return candidate;
    this.#restless.set(name, sighting);
    return undefined;
  }

  #forget(name: string): void {
    this.#seen.delete(name);
    this.#restless.delete(name);
  }

  // ── the folder ──────────────────────────────────────────────────────────────────────────────────

  /** Files and links in `dir` and below. */
  async *#walk(dir: string): AsyncGenerator<string> {
    try {
      for await (const entry of await opendir(dir, { bufferSize: 128 })) {
        const path = join(dir, entry.name);
        if (!entry.isDirectory()) yield path;
        else if (this.#enters(path)) yield* this.#walk(path);
        else if (await isAbandoned(path, this.#tag)) yield* await this.#restored(path);
      }
    } catch (error) {
      const name = this.#nameOf(dir);
      if (dir === this.root)
        this.#unreadable = `the folder cannot be read (${codeOf(error) ?? 'unknown error'})`;
      if (await isMisnamed(dir)) this.#unread(name, 'a folder has a name that is not UTF-8: rename it');
      // A folder deleted while being read is not worth a warning.
      else if (!isCode(error, 'ENOENT')) this.#unread(name, 'a folder cannot be read', error);
    }
  }

  /** The films in a folder of {@link putAway}, moved back; it may be gone by now. The scan goes on in any case. */
  async #restored(dir: string): Promise<string[]> {
    try {
      return await restore(dir);
    } catch (error) {
      if (!isCode(error, 'ENOENT'))
        this.#unread(this.#nameOf(dir), 'films cannot be moved back out of a folder', error);
      return [];
    }
  }

  /** Whether the folder exists; if so, watches it. */
  async #watchRoot(): Promise<boolean> {
    const info = await stat(this.root).catch(() => undefined);
    this.#realRoot = await realpath(this.root).catch(() => this.root);
    const identity = info?.isDirectory() === true ? [info.dev, info.ino, info.birthtimeMs].join() : '';
    if (identity === this.#watched || this.services.once) return identity !== '';
    await this.#watcher?.close();
    if (identity === '') {
      this.services.log.warn({ source: this.services.id }, 'the folder is gone: waiting for it to come back');
    } else {
      this.#watcher = this.#listen();
    }
    this.#watched = identity;
    return identity !== '';
  }

  /** Watches only folders: one handle per folder announces all of its files. */
  #listen(): FSWatcher {
    const watcher = chokidar.watch(this.root, {
      ignoreInitial: true,
      followSymlinks: false,
      usePolling: this.settings.polling,
      ignored: (path, info) => info !== undefined && !(info.isDirectory() && this.#enters(path)),
    });
    const hint = (path: string): void => {
      this.#hints.add(path);
      this.#wake();
    };
    watcher.on('raw', (_event, path, details) => {
      const { watchedPath } = details as { watchedPath?: string };
      // Polling reports the changed folder, watching the changed file (if any) in the watched folder.
      if (watchedPath === undefined) hint(path);
      else hint(path ? join(watchedPath, path) : watchedPath);
    });
    watcher.on('ready', () => {
      hint(this.root);
    });
    watcher.on('error', (error) => {
      this.#warn('', unheard(error, this.settings.scanMs), error);
    });
    return watcher;
  }

  #enters(dir: string): boolean {
    if (dir === this.root) return true;
    if (this.#takesEveryFile && isClutter(basename(dir))) return false;
    return this.settings.recursive && dir !== this.archive && !isHidden(this.#nameOf(dir));
  }

  #wants(name: string): boolean {
    return !isHidden(name) && this.#matches(name);
  }

  #nameOf(path: string): string {
    return relative(this.root, path).split(sep).join('/');
  }

  // ── time ────────────────────────────────────────────────────────────────────────────────────────

  /** When the next file may be complete. */
  #firstDue(): number {
    for (const { since } of this.#restless.values()) return since + this.settings.settleMs;
    return Infinity;
  }

  /** Waits until a time, or a notification. */
  #sleep(ms: number): Promise<void> {
    if (this.#hints.size > 0 || this.#stopped) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Warns once per path. `detail` may contain the path, and is logged only at level debug. */
  #warn(path: string, message: string, detail: unknown): void {
    if (this.#warned.has(path)) return;
    this.#warned.add(path);
    const { id: source, log } = this.services;
    const code = codeOf(detail);
    log.warn({ source }, code === undefined ? message : `${message} (${code})`);
    log.debug({ source }, `${message}: ${messageOf(detail)}`);
  }
}

/** The message for an error of the watcher. No film is lost; finding new films takes longer. */
function unheard(error: unknown, scanMs: number): string {
  const limit = {
    ENOSPC:
      'the limit on watched folders is reached; raise fs.inotify.max_user_watches, or watch fewer folders',
    EMFILE: 'too many files are open; raise `ulimit -n` or fs.inotify.max_user_instances',
  }[codeOf(error) ?? ''];
  const instead = `new films are only found by scans, every ${scanMs} ms`;
  return limit === undefined ? instead : `${limit}. Until then ${instead}`;
}

/** Size and mtime are not enough: a film that is unpacked, restored or renamed over another may have the same. */
function isUnchanged(before: Candidate, now: Candidate): boolean {
  return (
    before.size === now.size &&
    before.mtimeMs === now.mtimeMs &&
    before.ino === now.ino &&
    before.ctimeMs === now.ctimeMs
  );
}

/** Whether `path` has bytes that are not UTF-8, which Node cannot represent. */
async function isMisnamed(path: string): Promise<boolean> {
  if (!basename(path).includes('\ufffd')) return false;
  const names = await readdir(dirname(path), { encoding: 'buffer' }).catch(() => []);
  return names.some((bytes) => bytes.toString() === basename(path) && !isUtf8(bytes));
}

/** Rejects with ETIMEDOUT if the work takes longer; the work is not stopped. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = Object.assign(new Error('it takes too long'), { code: 'ETIMEDOUT' });
    timer = setTimeout(() => reject(error), ms).unref();
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function isHidden(name: string): boolean {
  return name.startsWith('.') || name.includes('/.');
}

/**
 * The file at `path`, or the target of a link there, with an error if that is outside the folder. Undefined if there is
 * no file, or a folder, whose files are found by themselves.
 */
async function candidateOf(
  realRoot: string,
  path: string,
  name: string,
  info: Stats,
): Promise<Candidate | undefined> {
  const { size, mtimeMs, ino, ctimeMs } = info;
  if (info.isFile()) return { path, name, size, mtimeMs, ino, ctimeMs, within: realRoot };
  if (!info.isSymbolicLink()) return undefined;
  try {
    const target = await realpath(path);
    if (target !== realRoot && !target.startsWith(realRoot + sep)) {
      const message = 'the file is a symbolic link that leads out of the folder';
      return { path, name, size, mtimeMs, ino, ctimeMs, error: new RxrayError('FRAME_OUTSIDE', message) };
    }
    const there = await stat(target);
    return there.isFile() ? await candidateOf(realRoot, path, name, there) : undefined;
  } catch (cause) {
    const message = 'the file is a symbolic link that leads nowhere';
    const error = new RxrayError('FRAME_UNREADABLE', message, { cause });
    return { path, name, size, mtimeMs, ino, ctimeMs, error };
  }
}

/**
 * The path of `moveTo` as a scan of `root` would find it, with links resolved; unchanged if it is elsewhere. Throws
 * CONFIG_CREATE if both are the same folder.
 */
async function archiveOf(root: string, moveTo: string | undefined): Promise<string | undefined> {
  if (moveTo === undefined) return undefined;
  const inside = relative(await realPathOf(root), await realPathOf(moveTo));
  if (inside === '') {
    throw new RxrayError('CONFIG_CREATE', `\`moveTo\` must not be the watched folder, ${root}`);
  }
  return inside.split(sep)[0] === '..' || isAbsolute(inside) ? moveTo : join(root, inside);
}
