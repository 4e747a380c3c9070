import { stat } from 'node:fs/promises';
import { concatMap, filter, from, map, of, timer, type Observable } from 'rxjs';
import { messageOf } from '../errors.js';
import { endReplay, requestedReplays, type Letter } from '../letters.js';
import type { Candidate, Log, SourceInstance } from '../plugin.js';
import type { Offer } from './admission.js';

const LOOK_EVERY_MS = 1000;

/**
 * Films of the dead letter that are to run once more, as they are asked for: by this process or by another, and before
 * the start. With `once`, those that were asked for so far. A request that cannot be replayed is logged and kept.
 */
export function replaysOf(
  stateDir: string,
  sources: ReadonlyMap<string, SourceInstance>,
  once: boolean,
  log: Log,
): Observable<Offer> {
  /** Those that are on their way. */
  let offered = new Set<string>();
  let known: readonly Letter[] = [];
  let failed = false;
  return (once ? of(0) : timer(0, LOOK_EVERY_MS)).pipe(
    concatMap(requested),
    map((letters) => {
      const before = offered;
      offered = new Set(letters.map(({ id }) => id));
      return letters.filter(({ id }) => !before.has(id));
    }),
    concatMap((letters) => from(letters)),
    concatMap((letter) => offerOf(letter)),
    filter((offer) => offer !== undefined),
  );

  /** Those that were asked for so far. What keeps the folder from being read (too many open files) may pass. */
  async function requested(): Promise<readonly Letter[]> {
    try {
      const letters = await requestedReplays(stateDir);
      failed = false;
      return (known = letters);
    } catch (error) {
      if (!failed) log.warn({}, `replays wait: ${messageOf(error)}`);
      failed = true;
      return known;
    }
  }

  async function offerOf(letter: Letter): Promise<Offer | undefined> {
    const source = sources.get(letter.source);
    const candidate = source === undefined ? undefined : await candidateOf(letter, source);
    if (candidate !== undefined) return { source: letter.source, candidate };
    const missing = letter.source === '' ? letter.message : `the graph has no source ${letter.source}`;
    const why = source === undefined ? missing : 'its file is gone';
    log.warn({ frame: letter.id }, `a film of the dead letter cannot be replayed: ${why}`);
    await endReplay(stateDir, letter.id);
    return undefined;
  }
}

/** The file under its own name and in its own place; its bytes are those of the copy, if there is one. */
async function candidateOf(letter: Letter, source: SourceInstance): Promise<Candidate | undefined> {
  const { id, kept, file: name } = letter;
  if (kept === null) {
    const found = await source.look?.(name);
    return found && { ...found, replay: { letter: id } };
  }
  const { size, mtimeMs } = await stat(kept);
  const copy = { path: kept, size, mtimeMs };
  return {
    ...copy,
    name,
    ...(letter.path !== undefined && { path: letter.path }),
    ...(letter.mtimeMs !== undefined && { mtimeMs: letter.mtimeMs }),
    replay: { letter: id, copy },
  };
}
