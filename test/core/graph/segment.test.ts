import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { filter, from, lastValueFrom, map, switchMap, takeUntil, toArray } from 'rxjs';
import type { Frame } from '../../../src/core/frame.js';
import type { Span } from '../../../src/core/flow/settled.js';
import type { Token } from '../../../src/core/flow/ticket.js';
import { throughSegment } from '../../../src/core/graph/segment.js';
import { Meter } from '../../../src/core/monitor/meter.js';
import { WorkerPool } from '../../../src/core/workers/pool.js';
import { counting, type Counting } from '../support/counting.js';
import { silent, stageNode, token } from './support.js';

describe('throughSegment', () => {
  let dir: string;
  let pool: WorkerPool;
  let segment: Awaited<ReturnType<typeof counting>>;
  let meters: Meter[];
  let spans: [film: string, stage: string][];

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-segment-'));
    segment = await counting(dir);
    pool = new WorkerPool(silent, 1);
  });
  after(async () => {
    await pool.dispose();
    await rm(dir, { recursive: true });
  });

  /** Sends films through stages a, b, c; `host` is what stands beside `use:`. Numbers of tasks are counted. */
  async function run(
    sent: readonly Token[],
    own: Readonly<Record<string, Counting>> = {},
    host: Readonly<Record<string, Parameters<typeof stageNode>[0]>> = {},
    begin: () => void = () => undefined,
  ): Promise<{ out: (Frame | null)[]; tasks: number }> {
    spans = [];
    const note = (film: string, { component }: Span): void => void spans.push([film, component]);
    meters = [...'abc'].map((id) => new Meter(id, 'stage', note));
    const stages = meters.map((meter) => ({ meter, policy: stageNode({ id: meter.id, ...host[meter.id] }) }));
    let tasks = 0;
    const counted: Pick<WorkerPool, 'process'> = {
      process: (...given) => {
        tasks += 1;
        return pool.process(...given);
      },
    };
    begin();
    const [first] = stages;
    const work = throughSegment(segment('abc', own), stages, counted, 1);
    const out$ = from(sent).pipe(first?.meter.entering() ?? expect.fail(), work);
    return {
      out: await lastValueFrom(
        out$.pipe(
          map(({ frame }) => frame),
          toArray(),
        ),
      ),
      tasks,
    };
  }

  const stagesIn = (frame: Frame | null | undefined): string => Object.keys(frame?.results ?? {}).join('');
  /** In, out, failed, waiting and in flight at each stage. */
  const counts = (): number[][] =>
    meters.map(({ framesIn, framesOut, errors, queue, inFlight }) => [
      framesIn,
      framesOut,
      errors,
      queue,
      inFlight,
    ]);

  it('takes each film through all stages in one task, and counts at each', async () => {
    const { out, tasks } = await run([token('a'), token('b')], { b: { changes: true } });
    expect(out.map(stagesIn)).to.deep.equal(['abc', 'abc']);
    expect(tasks).to.equal(2);
    expect(counts()).to.deep.equal([
      [2, 2, 0, 0, 0],
      [2, 2, 0, 0, 0],
      [2, 2, 0, 0, 0],
    ]);
    expect(spans.map(([film, stage]) => film + stage)).to.deep.equal(['aa', 'ab', 'ac', 'ba', 'bb', 'bc']);
    for (const meter of meters) expect(meter.workSeconds).to.be.within(0.008, meter.callSeconds);
  });

  it('fails a film at the stage that threw, and passes nothing on', async () => {
    const [bad, good] = [token('bad'), token('good')];
    const { out } = await run([bad, good], { b: { refuses: 'bad.png' } });
    expect(out.map(stagesIn)).to.deep.equal(['', 'abc']);
    expect(bad.ticket.failure).to.include({
      code: 'FRAME_STAGE',
      component: 'b',
      message: 'b does not like it',
    });
    expect(counts()).to.deep.equal([
      [2, 2, 0, 0, 0],
      [2, 1, 1, 0, 0],
      [1, 1, 0, 0, 0],
    ]);
  });

  it('retries a stage according to its `retry:`, without repeating those before it', async () => {
    const own = { b: { refuses: 'bad.png', times: 2 }, c: { refuses: 'bad.png', times: 1 } };
    const retry = { attempts: 3, backoffMs: 1, maxBackoffMs: 2 };
    const sent = token('bad');
    const { out, tasks } = await run([sent], own, { b: { retry }, c: { retry } });
    expect(out[0]?.results).to.deep.equal({
      a: { kind: 'count', calls: 1 },
      b: { kind: 'count', calls: 3 },
      c: { kind: 'count', calls: 2 },
    });
    expect([tasks, sent.ticket.live]).to.deep.equal([4, true]);
    expect(counts()).to.deep.equal([
      [1, 1, 0, 0, 0],
      [1, 1, 0, 0, 0],
      [1, 1, 0, 0, 0],
    ]);
    expect(spans.map(([, stage]) => stage).join('')).to.equal('abbbcc');

    const lost = token('bad');
    await run([lost], { b: { refuses: 'bad.png' } }, { b: { retry } });
    expect(lost.ticket.failure).to.include({ component: 'b' });
    expect(spans.map(([, stage]) => stage).join('')).to.equal('abbb');
  });

  it('continues after a stage that failed with `onError: continue`', async () => {
    const sent = token('bad', 2);
    const own = { a: { changes: true }, b: { refuses: 'bad.png' }, c: { changes: true } };
    const { out } = await run([sent], own, { b: { onError: 'continue' } });
    expect(stagesIn(out[0])).to.equal('ac');
    expect(out[0]?.image?.data).to.deep.equal(sent.frame.image?.data.map((value) => value + 2));
    expect(sent.ticket.live).to.equal(true);
  });

  it('excludes a film at the stage whose `when:` is false, and fails it where `when:` cannot be evaluated', async () => {
    const [other, chosen] = [token('other'), token('chosen')];
    const own = { b: { when: 'file == "chosen.png"' } };
    const { out, tasks } = await run([other, chosen], own);
    expect([out.map(stagesIn), tasks]).to.deep.equal([['', 'abc'], 2]);
    expect(other.ticket.failure).to.equal(undefined);
    expect(counts()).to.deep.equal([
      [2, 2, 0, 0, 0],
      [1, 1, 0, 0, 0],
      [1, 1, 0, 0, 0],
    ]);

    const sent = token('a');
    await run([sent], { b: { when: 'results.z.calls > 1' } });
    expect(sent.ticket.failure).to.include({ code: 'FRAME_EXPRESSION', component: 'b' });
    expect(counts()).to.deep.equal([
      [1, 1, 0, 0, 0],
      [0, 0, 1, 0, 0],
      [0, 0, 0, 0, 0],
    ]);
  });

  it('is split at a stage that is watched, as long as it is', async () => {
    const films = ['a', 'b', 'c', 'd'].map((id) => token(id, 2));
    const seen: Frame[] = [];
    const own = { a: { changes: true }, b: { changes: true }, c: { changes: true } };
    const { out, tasks } = await run(films, own, {}, () => {
      const [, middle, last] = meters as [Meter, Meter, Meter];
      const through = (film: string) => last.passing$.pipe(filter(({ id }) => id === film));
      through('a')
        .pipe(
          switchMap(() => middle.passing$),
          takeUntil(through('c')),
        )
        .subscribe((frame) => seen.push(frame));
    });
    expect(seen.map(({ id }) => id)).to.deep.equal(['b', 'c']);
    expect(tasks).to.equal(6);
    for (const { results, image } of seen) {
      expect(Object.keys(results)).to.deep.equal(['a', 'b']);
      expect(image?.data).to.deep.equal(films[0]?.frame.image?.data.map((value) => value + 2));
    }
    for (const frame of out)
      expect(frame?.image?.data).to.deep.equal(films[0]?.frame.image?.data.map((value) => value + 3));
    expect(out.map((frame) => frame?.id)).to.deep.equal(['a', 'b', 'c', 'd']);
    expect(counts()).to.deep.equal([
      [4, 4, 0, 0, 0],
      [4, 4, 0, 0, 0],
      [4, 4, 0, 0, 0],
    ]);
  });

  it('names the stage in which calls take too long', async () => {
    const sent = token('slow');
    const limits = {
      a: { timeoutMs: 30_000 },
      b: { timeoutMs: 300, hangsAt: 'slow.png' },
      c: { timeoutMs: 30_000 },
    };
    await run([sent], limits, {}, () =>
      meters.forEach((meter) => (meter.limitMs = limits[meter.id as 'a'].timeoutMs)),
    );
    expect(sent.ticket.failure).to.include({ code: 'FRAME_STAGE', component: 'b' });
    expect(meters.map(({ trouble }) => trouble === null)).to.deep.equal([true, false, true]);
  });

  it('passes on that there is no film', async () => {
    const { out, tasks } = await run([{ ...token('a'), frame: null }]);
    expect([out, tasks]).to.deep.equal([[null], 0]);
    expect(counts()).to.deep.equal([
      [0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0],
    ]);
  });
});
