import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { firstValueFrom, lastValueFrom, map, mergeMap, of, timer, toArray } from 'rxjs';
import { builtInRegistry } from '../../../src/host/builtins.js';
import { loadPipeline } from '../../../src/core/config/load.js';
import { createProcessContainer } from '../../../src/core/container.js';
import type { Frame } from '../../../src/core/frame.js';
import type { SinkAnswer } from '../../../src/core/flow/ticket.js';
import type { OperatorStage } from '../../../src/core/plugin.js';
import { Histogram } from '../../../src/core/monitor/histogram.js';
import { Meter } from '../../../src/core/monitor/meter.js';
import { Monitor } from '../../../src/core/monitor/monitor.js';
import type { Settled, Span } from '../../../src/core/flow/settled.js';
import { startPipeline } from '../../../src/core/run.js';
import { film } from '../../support/films.js';
import { frame, token } from '../graph/support.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

describe('Histogram', () => {
  it('counts a value in the first bucket that is not below it', () => {
    const histogram = new Histogram([1, 2]);
    [0.5, 1, 1.5, 3].forEach((value) => histogram.observe(value));
    expect(histogram.counts).to.deep.equal([2, 1, 1]);
    expect([histogram.sum, histogram.count]).to.deep.equal([6, 4]);
  });
});

describe('Meter', () => {
  let spans: [string, Span][];
  let meter: Meter;

  beforeEach(() => {
    spans = [];
    meter = new Meter('score', 'stage', (id, span) => spans.push([id, span]));
  });

  it('counts what waits before a stage and what is in progress', () => {
    let finish: (frames: Frame[]) => void = () => undefined;
    const { processBatch } = meter.stage({
      processBatch: () => new Promise<Frame[]>((resolve) => (finish = resolve)),
    }) as { processBatch: (frames: readonly Frame[]) => Promise<readonly Frame[]> };
    of(token('a'), token('b'), token('c')).pipe(meter.entering()).subscribe();
    const done = processBatch([frame('a'), frame('b')]);
    expect([meter.queue, meter.inFlight]).to.deep.equal([1, 2]);
    finish([frame('a'), frame('b')]);
    return done.then(() => {
      expect(meter.inFlight).to.equal(0);
      expect(meter.batches.sum).to.equal(2);
      expect(spans.map(([id, { component, batch }]) => [id, component, batch])).to.deep.equal([
        ['a', 'score', 2],
        ['b', 'score', 2],
      ]);
    });
  });

  it('measures a call that throws, too', async () => {
    const stage = meter.stage({
      process: () => {
        throw new Error('no');
      },
    }) as { process: (frame: Frame) => Promise<Frame> };
    const thrown = await stage.process(frame('a')).catch((error: unknown) => error);
    expect(thrown).to.be.an('error');
    expect([meter.inFlight, meter.durations.count]).to.deep.equal([0, 1]);
  });

  it('reports since when a stage hangs, and that calls take too long until one succeeds', async () => {
    meter.limitMs = 20;
    const { process } = meter.stage({
      process: ({ id }) => {
        if (id === 'good') return frame(id);
        return new Promise((_, reject) => setTimeout(() => reject(new Error('too long')), 60));
      },
    }) as { process: (frame: Frame) => Promise<Frame> };
    expect(meter.trouble).to.equal(null);
    const before = Date.now();
    const late = process(frame('a')).catch(() => undefined);
    expect(meter.trouble).to.equal(null);
    while (meter.trouble === null) await firstValueFrom(timer(5));
    expect(meter.trouble.message).to.equal('a call has not returned since');
    expect(meter.trouble.since.getTime()).to.be.closeTo(before, 40);
    await late;
    expect(meter.trouble).to.have.property('message').that.contains('longer than 20 ms');
    await process(frame('good'));
    expect(meter.trouble).to.equal(null);
  });

  it('measures the time that a frame is inside an operator', async () => {
    const delayed = mergeMap((it: Frame) => timer(5).pipe(map(() => it)));
    const { operator } = meter.stage({ operator: delayed }) as OperatorStage;
    const running = lastValueFrom(of(frame('a'), frame('b')).pipe(operator, toArray()));
    expect(meter.inFlight).to.equal(2);
    await running;
    expect(meter.inFlight).to.equal(0);
    expect(spans.map(([id]) => id)).to.deep.equal(['a', 'b']);
    expect(spans[0]![1].ms).to.be.greaterThan(4);
  });

  it('counts a frame that failed here, and none that failed elsewhere', () => {
    const [here, elsewhere] = [token('a'), token('b')];
    here.ticket.fail('score', new Error('no'), 'FRAME_STAGE');
    elsewhere.ticket.fail('decode', new Error('no'), 'FRAME_STAGE');
    of({ ...here, frame: null }, { ...elsewhere, frame: null }, token('c'))
      .pipe(meter.leaving())
      .subscribe();
    expect([meter.framesOut, meter.errors]).to.deep.equal([1, 1]);
  });

  it('passes the output to subscribers, except frames that a sink refused', () => {
    const seen: string[] = [];
    meter.passing$.subscribe(({ id }) => seen.push(id));
    const answers: SinkAnswer[] = ['a', 'b'].map((id) => ({
      sink: 'csv',
      token: token(id),
      frame: frame(id),
      ...(id === 'b' ? { kind: 'refuse', thrown: new Error('full') } : { kind: 'confirm' }),
    }));
    of(...answers)
      .pipe(meter.settling())
      .subscribe();
    expect(seen).to.deep.equal(['a']);
    expect([meter.framesOut, meter.errors]).to.deep.equal([1, 1]);
  });
});

describe('a monitored graph', () => {
  let dir: string;

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-monitor-'));
    await mkdir(join(dir, 'inbox'));
    await writeFile(
      join(dir, 'pipeline.yaml'),
      `
version: 1
sources: [{ use: watch, with: { path: ./inbox, settleMs: 50 } }]
stages: [{ use: decode }, { use: resize, with: { width: 32, height: 32 } }]
sinks: [{ use: csv, with: { path: ./out.csv } }]
`,
    );
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  async function run(monitor: Monitor): ReturnType<typeof startPipeline> {
    const { pipeline } = await loadPipeline(join(dir, 'pipeline.yaml'), builtInRegistry());
    return startPipeline(pipeline!, createProcessContainer(silent), { once: true, monitor });
  }

  it('counts at every entry, and records how long each took for a film', async () => {
    await writeFile(join(dir, 'inbox/good.png'), await film().png().toBuffer());
    await writeFile(join(dir, 'inbox/bad.png'), 'not a film');
    const monitor = new Monitor();
    const settled: Settled[] = [];
    monitor.settled$.subscribe((each) => settled.push(each));
    await (
      await run(monitor)
    ).finished;

    const counts = [...monitor.meters.values()].map(({ id, framesIn, framesOut, errors, queue }) => [
      id,
      framesIn,
      framesOut,
      errors,
      queue,
    ]);
    expect(counts).to.deep.equal([
      ['watch', 0, 2, 0, 0],
      ['decode', 2, 1, 1, 0],
      ['resize', 1, 1, 0, 0],
      ['csv', 1, 1, 0, 0],
    ]);
    expect(monitor.meter('decode').workSeconds).to.be.greaterThan(0);
    const others = { skipped: 0, already: 0, failedBefore: 0, leftAlone: 0 };
    expect(monitor.films).to.deep.equal({ done: 1, failed: 1, ...others });
    expect(monitor.load()).to.deep.equal({ waiting: 0, frames: 0, bytes: 0 });
    const good = settled.find(({ name }) => name === 'good.png')!;
    expect(good.spans.map(({ component }) => component)).to.deep.equal(['decode', 'resize', 'csv']);
  });

  it('processes a film again for display, and counts nothing of it', async () => {
    await writeFile(join(dir, 'inbox/film.png'), await film(96, 80).png().toBuffer());
    const monitor = new Monitor();
    const first = firstValueFrom(monitor.settled$);
    const { pipeline } = await loadPipeline(join(dir, 'pipeline.yaml'), builtInRegistry());
    const graph = await startPipeline(pipeline!, createProcessContainer(silent), { monitor });
    const { origin } = await first;
    const at = await graph.remake(origin);
    const [decoded, resized] = [await at('decode'), await at('resize')];
    expect([decoded?.image?.width, decoded?.image?.height]).to.deep.equal([96, 80]);
    expect([resized?.image?.width, resized?.image?.height]).to.deep.equal([32, 32]);
    expect(monitor.meter('decode').framesOut).to.equal(1);

    await writeFile(origin.path, await film(50, 50).png().toBuffer());
    const refusal = await graph.remake(origin).catch((error: unknown) => error);
    expect(refusal).to.have.property('code', 'FRAME_UNREADABLE');
    graph.stop();
    await graph.finished;
  });
});
