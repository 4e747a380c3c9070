import { expect } from 'chai';
import fc from 'fast-check';
import {
  bufferCount,
  concatMap,
  delay,
  filter,
  from,
  lastValueFrom,
  map,
  mergeMap,
  of,
  Subject,
  take,
  throwError,
  toArray,
  type OperatorFunction,
} from 'rxjs';
import type { Frame } from '../../../src/core/frame.js';
import { throughOperator } from '../../../src/core/graph/operator.js';
import type { Token } from '../../../src/core/flow/ticket.js';
import { wholeGroups } from '../../../src/core/whole-groups.js';
import { stageNode, token, withResult } from './support.js';

const warnings: string[] = [];
const log = {
  debug() {},
  info() {},
  warn: (_: object, message: string) => warnings.push(message),
  error() {},
};

async function run(operator: OperatorFunction<Frame, Frame>, sent: readonly Token[]): Promise<Token[]> {
  return lastValueFrom(from(sent).pipe(throughOperator(stageNode({}, log), { operator }), toArray()));
}

describe('throughOperator', () => {
  it('runs the frames through a whole operator, with state and out of order', async () => {
    const operator: OperatorFunction<Frame, Frame> = (input) =>
      input.pipe(
        bufferCount(2),
        concatMap((pair) => from(pair.reverse().map((f) => withResult(f, 's', pair.length)))),
      );
    const out = await run(
      operator,
      [...'abc'].map((id) => token(id)),
    );
    expect(out.map(({ frame }) => [frame?.id, frame?.results.s?.['value' as never]])).to.deep.equal([
      ['b', 2],
      ['a', 2],
      ['c', 1],
    ]);
  });

  for (const [title, failing] of [
    ['synchronously', map((f: Frame) => guard(f))],
    ['while others are inside', mergeMap((f: Frame) => of(f).pipe(delay(1), map(guard)))],
  ] as const) {
    it(`fails only the faulty frames when it errors ${title}`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 8 }), async (guilty) => {
          const sent = guilty.map((bad, index) => token(`${bad ? 'bad' : 'good'}${String(index)}`));
          const out = await run(failing, sent);
          expect(out.map(({ ticket }) => ticket.id).sort()).to.deep.equal(
            sent.map(({ ticket }) => ticket.id).sort(),
          );
          for (const { ticket, frame } of out) expect(frame === null).to.equal(ticket.id.startsWith('bad'));
        }),
        { numRuns: 25 },
      );
    });
  }

  it('fails the group that an operator of whole groups refuses, and keeps the others together', async () => {
    const calls: string[] = [];
    const grouped = (id: string, group: string, films: number): Token => {
      const sent = token(id);
      const meta = { group: { by: 'study', id: group, films, complete: true } };
      return { ...sent, frame: { ...sent.frame, meta } };
    };
    const operator = wholeGroups(
      (frames) => {
        calls.push(frames.map(({ id }) => id).join());
        if (frames.some(({ id }) => id === 'b1')) throw new Error('b1 is bad');
        return frames.map((each) => withResult(each, 's', frames.length));
      },
      { afterMs: 5000 },
    );
    const input = new Subject<Token>();
    const done = lastValueFrom(input.pipe(throughOperator(stageNode({}, log), { operator }), toArray()));
    for (const [id, group, films] of [
      ['a1', 'a', 3],
      ['a2', 'a', 3],
      ['b1', 'b', 2],
      ['b2', 'b', 2],
    ] as const)
      input.next(grouped(id, group, films));
    await new Promise((resolve) => setTimeout(resolve, 20));
    input.next(grouped('a3', 'a', 3));
    await new Promise((resolve) => setTimeout(resolve, 20));
    input.complete();
    const results = (await done).map(({ ticket, frame }) => [
      ticket.id,
      frame === null ? ticket.failure?.message : frame.results,
    ]);
    const together = { s: { kind: 'test', value: 3 } };
    expect(calls).to.deep.equal(['b1,b2', 'a1,a2,a3']);
    expect(results).to.have.deep.members([
      ['a1', together],
      ['a2', together],
      ['a3', together],
      ['b1', 'b1 is bad'],
      ['b2', 'b1 is bad'],
    ]);
  });

  it('fails frames that never come out', async () => {
    const out = await run(
      filter(({ id }) => id !== 'a'),
      [token('a'), token('b')],
    );
    const lost = out.find(({ ticket }) => ticket.id === 'a');
    expect(lost?.frame).to.equal(null);
    expect(lost?.ticket.failure?.message).to.match(/without emitting the frame/);
  });

  it('goes on when the operator completes before its input', async () => {
    const sent = [...'abc'].map((id) => token(id));
    const out = await run(take(1), sent);
    expect(out.map(({ frame }) => frame?.id)).to.deep.equal(['a', 'b', 'c']);
  });

  it('fails every frame, and ends, when the operator cannot even be subscribed', async () => {
    const out = await run(() => throwError(() => new Error('not today')), [token('a'), token('b')]);
    expect(out.map(({ ticket, frame }) => [frame, ticket.failure?.message])).to.deep.equal([
      [null, 'not today'],
      [null, 'not today'],
    ]);
  });

  it('fails frames that come out malformed', async () => {
    const out = await run(
      map((f) => ({ ...f, image: {} as never })),
      [token('a')],
    );
    expect(out[0]?.ticket.failure?.message).to.match(/malformed image/);
  });

  it('ignores frames that were never inside, and says so', async () => {
    warnings.length = 0;
    const out = await run(
      map((f) => ({ ...f, id: `${f.id}?` })),
      [token('a')],
    );
    expect(out.map(({ frame }) => frame)).to.deep.equal([null]);
    expect(warnings).to.have.length(1);
  });

  it('unsubscribes from its input', () => {
    const input = new Subject<Token>();
    input
      .pipe(throughOperator(stageNode(), { operator: map((f) => f) }))
      .subscribe()
      .unsubscribe();
    expect(input.observed).to.equal(false);
  });
});

function guard(f: Frame): Frame {
  if (f.id.startsWith('bad')) throw new Error('cannot do this one');
  return f;
}
