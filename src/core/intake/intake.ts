import { rm, stat } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import {
  concatMap,
  filter,
  from,
  identity,
  map,
  merge,
  mergeMap,
  Subject,
  takeUntil,
  tap,
  type Observable,
} from 'rxjs';
import { DUPLICATE, type Limits } from '../config/pipeline.js';
import { RxrayError } from '../errors.js';
import { precautionAfter } from '../fate.js';
import { partName, partOf, wholeFile } from '../file-part.js';
import { frameId, sealed, type Frame, type Origin } from '../frame.js';
import type { Journal } from '../journal/journal.js';
import type { Processed, ProcessedToken, Reference } from '../flow/elsewhere.js';
import type { JournalRecord, Policy } from '../journal/protocol.js';
import type { Monitor } from '../monitor/monitor.js';
import type { Candidate, Copy, Log, SourceInstance } from '../plugin.js';
import type { WorkerPool } from '../workers/pool.js';
import type { ReadReply } from '../workers/protocol.js';
import type { Admission, Admitted, Offer } from './admission.js';
import { Ticket } from '../flow/ticket.js';

/** How long a file must stay unchanged if it changed between being offered and being read. */
const RESETTLE_MS = 500;
const RESETTLE_UP_TO_MS = 60_000;
const CRASHED =
  'the process ended three times while this film was in a stage, the last time with no other film in flight';

export interface IntakeOptions {
  readonly admission: Admission;
  readonly pool: WorkerPool;
  readonly journal: Journal;
  readonly limits: Limits;
  /** Whether a film with the bytes of another one is marked as a duplicate. Parts of files are never marked. */
  readonly findDuplicates: boolean;
  /** Counts the films in a file: see {@link StageDefinition.imageCounter}. Absent: each file is one film. */
  readonly countImages?: ((path: string) => Promise<number>) | undefined;
  /**
   * Where other machines run the stages: they read the files before frames enter the graph, without their file, and a
   * crash of this process is not the film's fault.
   */
  readonly elsewhere?: Elsewhere | undefined;
  /** The run ends with its sources: a file that changes before it is read will not be offered again. */
  readonly once: boolean;
  readonly policy: Policy;
  /** Films of the dead letter to replay. */
  readonly replays$: Observable<Offer>;
  /** After it emits, no file is admitted; frames in flight finish. */
  readonly stop$: Observable<unknown>;
  /** Called with files whose bytes are settled already. */
  readonly onAlready: (offer: Offer & { readonly id: string }, known: JournalRecord) => void;
  readonly monitor: Monitor;
  readonly log: Log;
}

export interface Elsewhere {
  /** See {@link Remote.process}. */
  process(film: Reference): Promise<Processed | null>;
  /** Whether the films of this source are fetched there. */
  fetches(source: string): boolean;
}

/**
 * Makes frames from the files that the sources offer: takes each once, when there is credit for it, reads and hashes
 * it, and skips it if the journal has settled the same bytes under this name. A file that cannot be read becomes a
 * failed ticket without a frame.
 */
export function intake(
  sources: ReadonlyMap<string, SourceInstance>,
  options: IntakeOptions,
): Observable<ProcessedToken> {
  const { admission, pool, journal, limits, findDuplicates, countImages, elsewhere, once, policy } = options;
  const { replays$, stop$, onAlready, monitor, log } = options;
  /** Files that wait or are in flight: a source may offer one more than once. */
  const offered = new Set<string>();
  /** Ids of frames in flight: a file that was touched meanwhile, with the same bytes and name, is the same frame. */
  const ids = new Set<string>();
  /** Films in flight by the hash of their bytes: a copy waits until the first one is finished. */
  const originals = new Map<string, Promise<void>>();
  /** Films of fetched files that have several. */
  const parts$ = new Subject<Offer>();
  /** Films that share a fetched copy of their file, by its path. */
  const shared = new Map<string, { left: number; readonly file: string }>();
  /** Files that have not been fetched, and whether the sources have offered all: parts may come until then. */
  let unfetched = 0;
  let isAll = false;

  const files$ = merge(
    ...[...sources].map(([source, { candidates$ }]) =>
      candidates$.pipe(
        map((candidate) => ({ source, candidate })),
        countImages === undefined
          ? identity
          : concatMap((offer) => from(split(offer, countImages)).pipe(concatMap(identity))),
      ),
    ),
    replays$,
  ).pipe(
    filter((offer) => !offered.has(keyOf(offer))),
    tap({
      next: (offer) => {
        offered.add(keyOf(offer));
        unfetched += 1;
      },
      complete: () => {
        isAll = true;
        if (unfetched === 0) parts$.complete();
      },
    }),
  );
  const offers$ = merge(files$, parts$).pipe(takeUntil(stop$.pipe(tap(() => admission.close()))));
  return admission.admit(offers$).pipe(
    mergeMap(read),
    filter((token) => token !== null),
  );

  async function read(admitted: Admitted): Promise<ProcessedToken | null> {
    const { source } = admitted;
    let { candidate } = admitted;
    const { replay } = candidate;
    const isPart = candidate.copy !== undefined;
    if (isPart) admitted.copy = candidate.copy;
    const receivedAt = new Date().toISOString();
    const repeat = policy.since > 0 && { repeat: policy.since };
    const open = (file: Candidate): Promise<ReadReply | Processed | null> =>
      elsewhere === undefined
        ? pool.read(file, limits.bytes)
        : elsewhere.process({ source, candidate: file, receivedAt, ...repeat });
    let sha256 = '';
    let encoded: Uint8Array | undefined;
    let processed: Processed | undefined;
    let error: unknown = candidate.error;
    try {
      if (candidate.error === undefined) {
        if (replay?.copy === undefined && !isPart && elsewhere?.fetches(source) !== true) {
          const copy = await sources.get(source)?.fetch?.(wholeFile(candidate), limits.bytes);
          if (copy !== undefined) {
            candidate = { ...candidate, copy };
            admitted.copy = copy;
            if (await isSplit(admitted, { source, candidate })) return null;
          }
        }
        let reply = await open(candidate);
        while (reply === null) {
          if (elsewhere !== undefined && (await isAsOffered(candidate))) {
            throw new RxrayError('FRAME_UNREADABLE', 'the workers do not find the file, or cannot read it');
          }
          const changed = once && replay === undefined ? await lookAgain(candidate) : null;
          if (changed === null) {
            giveUp(admitted);
            const { copy: _copy, ...file } = wholeFile(candidate);
            if (replay === undefined) sources.get(source)?.lost?.(file);
            return null;
          }
          candidate = changed;
          reply = await open(candidate);
        }
        ({ sha256 } = reply);
        if ('encoded' in reply) {
          ({ encoded } = reply);
          const { ino, ctimeMs } = reply;
          // A copy has its own inode and change time.
          if (candidate.copy === undefined && replay?.copy === undefined)
            candidate = { ...candidate, ino, ctimeMs };
        } else {
          processed = reply;
          admitted.release = reply.release;
        }
      }
    } catch (thrown) {
      error = thrown;
      // It ended the processes that read it.
      if (thrown instanceof RxrayError && thrown.code === 'FRAME_CRASH') {
        const reply = await pool.hash(candidate, limits.bytes).catch(() => null);
        if (reply !== null) processed = { sha256: reply.sha256, error: thrown };
        sha256 = reply?.sha256 ?? '';
      }
    } finally {
      if (!isPart) unfetched -= 1;
      if (isAll && unfetched === 0) parts$.complete();
    }
    // Without bytes to hash, size and mtime identify the file.
    const id = frameId(
      source,
      candidate.name,
      sha256 || `${String(candidate.size)}:${String(candidate.mtimeMs)}`,
    );
    if (ids.has(id)) return giveUp(admitted);
    ids.add(id);
    const { path, name, size, mtimeMs, ino, ctimeMs } = candidate;
    const origin: Origin = { path, name, size, mtimeMs, source, sha256, receivedAt };
    let isAlone = false;
    let onReleased = (): void => undefined;
    const ticket = new Ticket(id, candidate, origin, {
      release: () => {
        ids.delete(id);
        giveUp(admitted);
        onReleased();
      },
      onProgress: () => {
        admission.progress();
      },
      onPassed: async () => {
        if (isAlone) await journal.passed(id);
      },
    });
    admitted.ticket = ticket;
    if (sha256 === '') {
      ticket.fail(undefined, error, 'FRAME_UNREADABLE');
      return { ticket, frame: null };
    }
    const film = { id, source, name, path, size, mtimeMs, ino, ctimeMs, sha256 };
    const findDuplicate = findDuplicates && partOf(candidate) === undefined;
    if (findDuplicate) {
      for (let other = originals.get(sha256); other !== undefined; other = originals.get(sha256)) await other;
      const settled = new Promise<void>((resolve) => (onReleased = resolve));
      originals.set(sha256, settled);
      void settled.then(() => originals.delete(sha256));
    }
    // A replayed film has failed before.
    const own = replay === undefined ? policy : { ...policy, failedSince: Infinity };
    let admittance = await journal.admit(film, own, {
      findDuplicate,
      harmless: elsewhere !== undefined,
    });
    const { known, interrupted } = admittance;
    if (known !== null) {
      onAlready({ source, candidate, id }, known);
      ticket.release();
      return null;
    }
    ticket.hold(encoded?.byteLength ?? 0);
    const precaution = precautionAfter(interrupted);
    if (precaution === 'putAside') {
      ticket.fail(undefined, new RxrayError('FRAME_CRASH', CRASHED), 'FRAME_CRASH');
      return { ticket, frame: null };
    }
    isAlone = precaution === 'alone';
    await admission.enter(ticket, isAlone);
    if (isAlone) {
      log.warn(
        { source, frame: id },
        'the process ended twice while this film was in flight: it is processed alone',
      );
      admittance = await journal.admit(film, own, { findDuplicate, alone: true });
    }
    const { delivered, duplicateOf, unread } = admittance;
    ticket.delivered = new Set(delivered);
    ticket.duplicate = duplicateOf !== null;
    ticket.unread = unread;
    const meta = candidate.group === undefined ? {} : { group: candidate.group };
    if (processed?.error !== undefined && !ticket.duplicate) {
      ticket.fail((processed.error as { component?: string }).component, processed.error, 'FRAME_STAGE');
      return { ticket, frame: null };
    }
    const bare = { id, origin, ...repeat, meta };
    const frame: Frame =
      duplicateOf === null
        ? { ...bare, ...(encoded !== undefined && { encoded }), results: {} }
        : {
            ...bare,
            results: { [DUPLICATE]: { kind: 'duplicate', of: duplicateOf.name, id: duplicateOf.id } },
          };
    monitor.enter(id);
    return { ticket, frame: sealed(frame), findings: processed?.findings };
  }

  /** The films in a file that are not settled: the file itself where it is one film. */
  async function split(
    { source, candidate }: Offer,
    count: NonNullable<IntakeOptions['countImages']>,
  ): Promise<Offer[]> {
    const of = candidate.error === undefined ? await count((candidate.copy ?? candidate).path) : 1;
    if (of === 1) return [{ source, candidate }];
    const parts = Array.from({ length: of }, (_, index) => ({
      ...candidate,
      name: partName({ file: candidate.name, number: index + 1, of }),
    }));
    const known = await journal.lookUp(source, parts, policy);
    return parts.filter((_, index) => known[index] === null).map((part) => ({ source, candidate: part }));
  }

  /** If a fetched file has several films: offers them in its place. They share its copy. */
  async function isSplit(admitted: Admitted, offer: Offer): Promise<boolean> {
    const { copy } = offer.candidate;
    if (countImages === undefined || copy === undefined || partOf(offer.candidate) !== undefined)
      return false;
    const films = await split(offer, countImages);
    if (films[0]?.candidate === offer.candidate) return false;
    const parts = films.filter((film) => !offered.has(keyOf(film)));
    if (parts.length === 0) {
      giveUp(admitted);
      return true;
    }
    shared.set(copy.path, { left: parts.length, file: keyOf(admitted) });
    for (const part of parts) {
      offered.add(keyOf(part));
      parts$.next(part);
    }
    admission.release(admitted);
    return true;
  }

  function giveUp(admitted: Admitted): null {
    offered.delete(keyOf(admitted));
    admission.release(admitted);
    admitted.release?.();
    if (admitted.copy !== undefined) drop(admitted.copy);
    return null;
  }

  /** Deletes a copy, with the last film that needs it. */
  function drop({ path }: Copy): void {
    const known = shared.get(path);
    if (known !== undefined) {
      known.left -= 1;
      if (known.left > 0) return;
      shared.delete(path);
      offered.delete(known.file);
    }
    void rm(path, { force: true }).catch(() => undefined);
  }
}

/** Whether the file is unchanged on this machine. */
async function isAsOffered({ copy, replay, ...offered }: Candidate): Promise<boolean> {
  const { path, size, mtimeMs } = copy ?? replay?.copy ?? offered;
  const info = await stat(path).catch(() => null);
  return info?.size === size && info.mtimeMs === mtimeMs;
}

/** The file once it has stopped changing; null if it is gone, or keeps changing. */
async function lookAgain(candidate: Candidate): Promise<Candidate | null> {
  const end = performance.now() + RESETTLE_UP_TO_MS;
  for (let { size, mtimeMs } = candidate; performance.now() < end;) {
    await setTimeout(RESETTLE_MS);
    const info = await stat(candidate.path).catch(() => null);
    if (info === null) return null;
    if (info.size === size && info.mtimeMs === mtimeMs) return { ...candidate, size, mtimeMs };
    ({ size, mtimeMs } = info);
  }
  return null;
}

function keyOf({ source, candidate: { name, size, mtimeMs, ino, ctimeMs } }: Offer): string {
  return JSON.stringify([source, name, size, mtimeMs, ino, ctimeMs]);
}
