import type { OperatorFunction } from 'rxjs';
import { messageOf } from './errors.js';
import type { Frame } from './frame.js';
import type { FilmGroup } from './plugin.js';
import { rxjs } from './rxjs.js';

/** The error of a group: the other groups inside the operator are not at fault. */
export class GroupFailure extends Error {
  constructor(
    readonly ids: ReadonlySet<string>,
    override readonly cause: unknown,
  ) {
    super(messageOf(cause), { cause });
  }
}

/**
 * An operator for stages that need all films of a study or series at once (`groups` of the source `dimse`): calls
 * `process` with the frames of each group, by name, and emits the frames that it returns, which must be the same ones. A
 * frame without `meta.group` is a group of one.
 *
 * A film that failed in an earlier stage does not arrive: its group is processed without it when no other has arrived for
 * `afterMs`. So is a group of more films than `limits` of the pipeline lets in.
 */
export function wholeGroups(
  process: (frames: readonly Frame[]) => readonly Frame[] | Promise<readonly Frame[]>,
  { afterMs = 60_000 }: { readonly afterMs?: number } = {},
): OperatorFunction<Frame, Frame> {
  const { debounceTime, filter, from, groupBy, merge, mergeMap, toArray } = rxjs();
  return (frames$) =>
    frames$.pipe(
      groupBy((frame) => groupOf(frame)?.id ?? frame.id, {
        duration: (group$) =>
          merge(
            group$.pipe(filter((frame, index) => index + 1 === (groupOf(frame)?.films ?? 1))),
            group$.pipe(debounceTime(afterMs)),
          ),
      }),
      mergeMap((group$) => group$.pipe(toArray())),
      mergeMap(async (frames) => {
        try {
          return await process(frames.sort((a, b) => (a.origin.name < b.origin.name ? -1 : 1)));
        } catch (thrown) {
          throw new GroupFailure(new Set(frames.map(({ id }) => id)), thrown);
        }
      }),
      mergeMap((frames) => from(frames)),
    );
}

function groupOf({ meta }: Frame): FilmGroup | undefined {
  return meta['group'] as FilmGroup | undefined;
}
