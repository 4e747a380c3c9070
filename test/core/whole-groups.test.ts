import { expect } from 'chai';
import { Subject, toArray } from 'rxjs';
import type { Frame } from '../../src/core/frame.js';
import { wholeGroups } from '../../src/core/whole-groups.js';
import { makeFrame } from '../../src/testing.js';

function film(name: string, group?: string, films = 2): Frame {
  const frame = makeFrame({ name });
  const meta = group === undefined ? {} : { group: { by: 'study', id: group, films, complete: true } };
  return { ...frame, id: name, meta };
}

describe('wholeGroups', () => {
  /** Sends the frames; the names of each group in the order of processing, and of what came out. */
  async function run(frames: readonly Frame[], ends = true): Promise<{ groups: string[]; out: string[] }> {
    const input = new Subject<Frame>();
    const groups: string[] = [];
    const out = new Promise<Frame[]>((resolve, reject) => {
      const process = (group: readonly Frame[]): readonly Frame[] => {
        groups.push(group.map(({ id }) => id).join());
        if (!ends && groups.length === 2) setTimeout(() => input.complete());
        return [...group].reverse();
      };
      input
        .pipe(wholeGroups(process, { afterMs: 20 }), toArray())
        .subscribe({ next: resolve, error: reject });
    });
    for (const frame of frames) input.next(frame);
    if (ends) input.complete();
    return { groups, out: (await out).map(({ id }) => id) };
  }

  it('processes the frames of a group together, by name, and others alone', async () => {
    const { groups, out } = await run([
      film('b', 'x'),
      film('c'),
      film('d', 'y'),
      film('a', 'x'),
      film('e', 'y'),
    ]);
    expect(groups).to.deep.equal(['c', 'a,b', 'd,e']);
    expect(out).to.deep.equal(['c', 'b', 'a', 'e', 'd']);
  });

  it('processes the frames that are there when no other comes, or the input ends', async () => {
    expect((await run([film('a', 'x', 3), film('b', 'x', 3)])).groups).to.deep.equal(['a,b']);
    const late = await run([film('a', 'x', 3), film('b', 'x', 3), film('c', 'y')], false);
    expect(late.groups).to.have.members(['a,b', 'c']);
  });
});
