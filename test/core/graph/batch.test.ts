import { expect } from 'chai';
import fc from 'fast-check';
import { from, lastValueFrom, Subject, toArray } from 'rxjs';
import type { Frame } from '../../../src/core/frame.js';
import { inBatches } from '../../../src/core/graph/batch.js';
import type { Token } from '../../../src/core/flow/ticket.js';
import { stageNode, token, type LiveToken } from './support.js';

/** A stage that remembers its batches and finishes them when told to. */
function manualStage() {
  const batches: { ids: string[]; finish: () => void }[] = [];
  const started = new Subject<void>();
  const stage = {
    processBatch: (frames: readonly Frame[]) =>
      new Promise<readonly Frame[]>((resolve) => {
        batches.push({ ids: frames.map(({ id }) => id), finish: () => resolve(frames) });
        started.next();
      }),
  };
  return { stage, batches };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const ids = (out: readonly Token[]): string[] => out.map(({ ticket }) => ticket.id);

describe('inBatches', () => {
  it('never waits while the device is idle, and fills up while it is busy', async () => {
    const { stage, batches } = manualStage();
    const input = new Subject<Token>();
    const out: Token[] = [];
    input
      .pipe(inBatches(stageNode(), stage, { size: 3, waitMs: 60_000, concurrency: 1 }))
      .subscribe((t) => out.push(t));
    for (const id of 'abcdef') input.next(token(id));
    expect(batches.map((b) => b.ids)).to.deep.equal([['a']]);
    batches[0]?.finish();
    await settle();
    expect(batches[1]?.ids).to.deep.equal(['b', 'c', 'd']);
    batches[1]?.finish();
    await settle();
    expect(batches[2]?.ids).to.deep.equal(['e', 'f']);
    batches[2]?.finish();
    await settle();
    expect(ids(out)).to.deep.equal([...'abcdef']);
  });

  it('waits at most waitMs while the device is busy with something else', async () => {
    const idle$ = new Subject<void>();
    const { stage, batches } = manualStage();
    const input = new Subject<Token>();
    const device = { idle: false, idle$ };
    input
      .pipe(inBatches(stageNode(), { ...stage, device }, { size: 3, waitMs: 5, concurrency: 1 }))
      .subscribe();
    input.next(token('a'));
    input.next(token('b'));
    expect(batches).to.have.length(0);
    while (batches.length === 0) await settle();
    expect(batches.map((b) => b.ids)).to.deep.equal([['a', 'b']]);
  });

  it('fills up while more frames are coming, and continues when the last of them has arrived or failed', async () => {
    const { stage, batches } = manualStage();
    const input = new Subject<Token>();
    let coming = 3;
    const isMoreComing = (): boolean => coming > 0;
    input
      .pipe(inBatches(stageNode(), stage, { size: 3, waitMs: 60_000, concurrency: 1, isMoreComing }))
      .subscribe();
    coming = 2;
    input.next(token('a'));
    coming = 1;
    input.next(token('b'));
    expect(batches).to.have.length(0);
    coming = 0;
    input.next({ ...token('c'), frame: null });
    expect(batches.map((b) => b.ids)).to.deep.equal([['a', 'b']]);
  });

  it('goes on as soon as the device becomes idle', () => {
    const idle$ = new Subject<void>();
    const device = { idle: false, idle$ };
    const { stage, batches } = manualStage();
    const input = new Subject<Token>();
    input
      .pipe(inBatches(stageNode(), { ...stage, device }, { size: 3, waitMs: 60_000, concurrency: 1 }))
      .subscribe();
    input.next(token('a'));
    expect(batches).to.have.length(0);
    device.idle = true;
    idle$.next();
    expect(batches.map((b) => b.ids)).to.deep.equal([['a']]);
  });

  it('never mixes image sizes', async () => {
    const sizes: number[][] = [];
    const stage = {
      processBatch: (frames: readonly Frame[]) => {
        sizes.push(frames.map((f) => f.image?.width ?? 0));
        return Promise.resolve(frames);
      },
    };
    const sent = [1, 2, 1, 2, 2, 3, 1].map((size, index) => token(String(index), size));
    const out = await lastValueFrom(
      from(sent).pipe(inBatches(stageNode(), stage, { size: 4, waitMs: 1, concurrency: 1 }), toArray()),
    );
    expect(sizes.every((batch) => new Set(batch).size === 1)).to.equal(true);
    expect(ids(out).sort()).to.deep.equal(ids(sent));
  });

  it('fails only the faulty frames when a batch throws, whatever their number and place', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.boolean(), { maxLength: 20 }),
        fc.integer({ min: 1, max: 8 }),
        async (guilty, size) => {
          const sent = guilty.map((bad, index) => token(`${bad ? 'bad' : 'good'}${String(index)}`));
          const stage = {
            processBatch: (frames: readonly Frame[]) =>
              frames.some(({ id }) => id.startsWith('bad'))
                ? Promise.reject(new Error('cannot do this one'))
                : Promise.resolve(frames),
          };
          const out = await lastValueFrom(
            from(sent).pipe(inBatches(stageNode(), stage, { size, waitMs: 0, concurrency: 2 }), toArray()),
          );
          expect(ids(out).sort()).to.deep.equal(ids(sent).sort());
          for (const { ticket, frame } of out) {
            expect(frame === null).to.equal(ticket.id.startsWith('bad'));
            expect(ticket.failure !== undefined).to.equal(ticket.id.startsWith('bad'));
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('fails frames whose stage returns others, or none', async () => {
    const stage = { processBatch: () => Promise.resolve([]) };
    const sent = token('a');
    await lastValueFrom(
      from([sent]).pipe(inBatches(stageNode(), stage, { size: 1, waitMs: 0, concurrency: 1 })),
    );
    expect(sent.ticket.failure?.message).to.match(/one for one and in order/);
  });

  it('fails frames that come out malformed', async () => {
    const stage = {
      processBatch: (frames: readonly Frame[]) =>
        Promise.resolve(frames.map((f) => ({ ...f, image: {} as never }))),
    };
    const sent = [token('a'), token('b')];
    await lastValueFrom(
      from(sent).pipe(inBatches(stageNode(), stage, { size: 2, waitMs: 0, concurrency: 1 })),
    );
    expect(sent.map(({ ticket }) => ticket.failure?.message).join()).to.match(
      /malformed image.*malformed image/,
    );
  });

  it('halves all further batches when the runtime has no memory for one', async () => {
    const sizes: number[] = [];
    const warnings: string[] = [];
    const log = { debug() {}, info() {}, error() {}, warn: (_: object, text: string) => warnings.push(text) };
    const stage = {
      processBatch: (frames: readonly Frame[]) => {
        sizes.push(frames.length);
        if (frames.length > 3)
          return Promise.reject(new Error('Failed to allocate memory for requested buffer'));
        return Promise.resolve(frames);
      },
    };
    const sent = [...'abcdefghijklmnop'].map((id) => token(id));
    const done = from(sent).pipe(
      inBatches(stageNode({}, log), stage, { size: 8, waitMs: 1, concurrency: 1 }),
      toArray(),
    );
    expect(await lastValueFrom(done)).to.have.length(16);
    expect(sent.every(({ ticket }) => ticket.live)).to.equal(true);
    expect(warnings).to.deep.equal([
      'there is no memory for 8 frames at once: batches are halved',
      'there is no memory for 4 frames at once: batches are halved',
    ]);
    expect(Math.max(...sizes.slice(-4))).to.equal(2);
  });

  it('retries a single frame according to `retry:`', async () => {
    let calls = 0;
    const stage = {
      processBatch: (frames: readonly Frame[]) =>
        ++calls < 3 ? Promise.reject(new Error('not yet')) : Promise.resolve(frames),
    };
    const sent = token('a');
    const node = stageNode({ retry: { attempts: 3, backoffMs: 1, maxBackoffMs: 2 } });
    await lastValueFrom(from([sent]).pipe(inBatches(node, stage, { size: 1, waitMs: 0, concurrency: 1 })));
    expect([calls, sent.ticket.live]).to.deep.equal([3, true]);
  });

  it('passes absent tokens on', async () => {
    const stage = { processBatch: () => Promise.reject(new Error('not to be called')) };
    const { ticket } = token('a');
    const out = await lastValueFrom(
      from<Token[]>([{ ticket, frame: null }]).pipe(
        inBatches(stageNode(), stage, { size: 1, waitMs: 0, concurrency: 1 }),
      ),
    );
    expect(out).to.deep.equal({ ticket, frame: null });
  });

  it('unsubscribes from its input and its device, and stops its timer', () => {
    const idle$ = new Subject<void>();
    const input = new Subject<LiveToken>();
    const stage = { ...manualStage().stage, device: { idle: false, idle$ } };
    const subscription = input
      .pipe(inBatches(stageNode(), stage, { size: 3, waitMs: 60_000, concurrency: 1 }))
      .subscribe();
    input.next(token('a'));
    subscription.unsubscribe();
    expect([input.observed, idle$.observed]).to.deep.equal([false, false]);
  });
});
