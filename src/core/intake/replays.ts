import { stat } from 'node:fs/promises';
import { concatMap, filter, from, map, of, timer, type Observable } from 'rxjs';
import { messageOf } from '../errors.js';
import { partOf } from '../file-part.js';
import { endReplay, requestedReplays, type DeadLetterEntry } from '../dead-letter-entries.js';
import type { Candidate, Log, SourceInstance } from '../plugin.js';
import type { Offer } from './admission.js';

const LOOK_EVERY_MS = 1000;

/**
 * Films of the dead letter whose replay is requested, by this or another process. With `once`: those requested before
 * the start. A request that cannot be replayed is logged and removed.
 */
export function replaysOf(
  stateDir: string,
  sources: ReadonlyMap<string, SourceInstance>,
  once: boolean,
  log: Log,
): Observable<Offer> {
  /** Ids that have been offered. */
  let offered = new Set<string>();
  let known: readonly DeadLetterEntry[] = [];
  let failed = false;
  return (once ? of(0) : timer(0, LOOK_EVERY_MS)).pipe(
    concatMap(requested),
    map((entries) => {
      const before = offered;
      offered = new Set(entries.map(({ id }) => id));
      return entries.filter(({ id }) => !before.has(id));
    }),
    concatMap((entries) => from(entries)),
    concatMap((entry) => offerOf(entry)),
    filter((offer) => offer !== undefined),
  );

  /** The requests so far. An error in reading the folder (too many open files) may be temporary. */
  async function requested(): Promise<readonly DeadLetterEntry[]> {
    try {
      const entries = await requestedReplays(stateDir);
      failed = false;
      return (known = entries);
    } catch (error) {
      if (!failed) log.warn({}, `replays wait: ${messageOf(error)}`);
      failed = true;
      return known;
    }
  }

  async function offerOf(entry: DeadLetterEntry): Promise<Offer | undefined> {
    const source = sources.get(entry.source);
    const candidate = source === undefined ? undefined : await candidateOf(entry, source);
    if (candidate !== undefined) return { source: entry.source, candidate };
    const missing = entry.source === '' ? entry.message : `the graph has no source ${entry.source}`;
    const why = source === undefined ? missing : 'its file is gone';
    log.warn({ frame: entry.id }, `a film of the dead letter cannot be replayed: ${why}`);
    await endReplay(stateDir, entry.id);
    return undefined;
  }
}

/** The film under its own name and path, with the bytes of the copy, if there is one. */
async function candidateOf(entry: DeadLetterEntry, source: SourceInstance): Promise<Candidate | undefined> {
  const { id, kept, file: name } = entry;
  if (kept === null) {
    const part = partOf({ name, path: entry.path ?? name });
    const found = await source.look?.(part?.file ?? name);
    return found && { ...found, name, replay: { entry: id } };
  }
  const info = await stat(kept).catch(() => null);
  // The entry was removed meanwhile.
  if (info === null) return undefined;
  const { size, mtimeMs } = info;
  const copy = { path: kept, size, mtimeMs };
  return {
    ...copy,
    name,
    ...(entry.path !== undefined && { path: entry.path }),
    ...(entry.mtimeMs !== undefined && { mtimeMs: entry.mtimeMs }),
    replay: { entry: id, copy },
  };
}
