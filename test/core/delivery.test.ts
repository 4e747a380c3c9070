import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import type { Container } from 'inversify';
import { concat, defer, filter, firstValueFrom, from, mergeMap, NEVER, Subject, type Observable } from 'rxjs';
import { z } from 'zod';
import type { Pipeline, SinkNode, SourceNode, StageNode } from '../../src/core/config/pipeline.js';
import { createProcessContainer } from '../../src/core/container.js';
import { RxrayError, Unavailable } from '../../src/core/errors.js';
import type { Frame } from '../../src/core/frame.js';
import {
  defineSink,
  defineSource,
  defineStage,
  type Candidate,
  type FrameStage,
  type SinkDefinition,
} from '../../src/core/plugin.js';
import { startPipeline, type PipelineRun } from '../../src/core/run.js';

const location = { line: 1, column: 1 };
const options = z.strictObject({});
const retry = { attempts: 3, backoffMs: 1, maxBackoffMs: 5, giveUpAfterMs: 300 };
const entry = { url: '', settings: {}, written: {}, location };

/** A sink of a test: what it has, how often it was asked, and how it takes a group. */
class Receiver {
  readonly frames: Frame[] = [];
  asked = 0;
  readonly #asked = new Subject<void>();
  /** Emits each time that it has been asked. */
  readonly asked$ = this.#asked.asObservable();

  constructor(
    public take: (group: readonly Frame[]) => Promise<void> | void = () => undefined,
    readonly definition: Partial<SinkDefinition> = {},
  ) {}

  node(id: string, node: Partial<SinkNode> = {}): SinkNode {
    const plugin = defineSink({
      name: id,
      summary: 'Test.',
      options,
      ...this.definition,
      create: () => ({
        write: async (group) => {
          this.asked += 1;
          try {
            await this.take(group);
            this.frames.push(...group);
          } finally {
            this.#asked.next();
          }
        },
      }),
    });
    return { id, use: id, plugin, ...entry, from: ['work'], retry, timeoutMs: 60_000, ...node };
  }

  get names(): string[] {
    return this.frames.map(({ origin }) => origin.name).sort();
  }
}

const down = (): Promise<void> => Promise.reject(new Unavailable('nobody there'));

describe('delivery', () => {
  let dir: string;
  let host: Container;
  let logged: string[];

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-delivery-'));
    logged = [];
    const say = (_: object, message: string) => void logged.push(message);
    host = createProcessContainer({ debug() {}, info: say, warn: say, error: say });
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  async function candidate(name: string): Promise<Candidate> {
    const path = join(dir, name);
    const { size, mtimeMs } = await stat(path);
    return { path, name, size, mtimeMs };
  }

  async function put(...names: string[]): Promise<void> {
    for (const name of names) await writeFile(join(dir, name), name);
  }

  /** Offers the files that are there; then ends, or goes on with `more`. */
  function files(names: readonly string[], more: Observable<string> = NEVER): SourceNode {
    const plugin = defineSource({
      name: 'list',
      summary: 'Offers files of a list.',
      options,
      create: (_, { once, unsettled }) => ({
        candidates$: concat(
          defer(async () => unsettled(await Promise.all(names.map(candidate)))).pipe(
            mergeMap((list) => from(list)),
          ),
          once ? from([]) : more.pipe(mergeMap(candidate)),
        ),
      }),
    });
    return { id: 'files', use: 'list', plugin, ...entry };
  }

  function work(process: FrameStage['process'] = (frame) => frame): StageNode {
    const create = () => ({ process });
    const plugin = defineStage({ name: 'work', summary: 'Test.', options, runsIn: 'main', create });
    return { id: 'work', use: 'work', plugin, ...entry, from: ['files'] };
  }

  function graph(source: SourceNode, sinks: SinkNode[], rest: Partial<Pipeline> = {}): Pipeline {
    return {
      file: join(dir, 'p.yaml'),
      baseDir: dir,
      stateDir: join(dir, '.rxray'),
      name: 'p',
      hash: 'h',
      limits: { frames: 2, bytes: 1e6, minFreeBytes: 0 },
      duplicates: 'process',
      shutdownTimeoutMs: 10_000,
      sources: [source],
      stages: [work()],
      sinks,
      ...rest,
    };
  }

  const films = ['a', 'b', 'c', 'd', 'e', 'f'];
  const once = { once: true };
  const run = async (pipeline: Pipeline, how = once) => (await startPipeline(pipeline, host, how)).finished;

  it('continues without a sink that is down, with more films than may be in flight, and delivers them after a restart', async () => {
    await put(...films);
    const [well, ill] = [new Receiver(), new Receiver(down, { outbox: true })];
    const pipeline = () => graph(files(films), [well.node('well'), ill.node('ill')]);
    expect(await run(pipeline())).to.include({ done: 0, failed: 0, waiting: 6 });
    expect(well.names).to.deep.equal(films);
    ill.take = () => undefined;
    expect(await run(pipeline())).to.include({ done: 6, failed: 0, waiting: 0 });
    expect([well.names, ill.names]).to.deep.equal([films, films]);
    expect(await run(pipeline())).to.include({ done: 0, already: 6 });
    expect([well.frames.length, ill.frames.length]).to.deep.equal([6, 6]);
  });

  it('serves a sink from the journal when it is up again', async () => {
    await put(...films);
    const ill: Receiver = new Receiver(() => (ill.asked < 5 ? down() : undefined), { maxBatch: 4 });
    const summary = await run(graph(files(films), [new Receiver().node('well'), ill.node('ill')]));
    expect(summary).to.include({ done: 6, waiting: 0 });
    expect(ill.names).to.deep.equal(films);
    expect(logged.join()).to.match(/ill|the sink is down.*nobody there.*the sink is up again/);
  });

  it('refuses a film that a sink keeps failing on, while it delivers the others', async () => {
    await put(...films);
    const ill = new Receiver((group) =>
      group.some(({ origin }) => origin.name === 'b') ? down() : undefined,
    );
    const more = new Subject<string>();
    const running = await startPipeline(graph(files(films, more), [ill.node('ill')]), host);
    const failed = firstValueFrom(running.settled$.pipe(filter(({ outcome }) => outcome === 'failed')));
    // A lone film that fails might as well be an outage: each that gets through tells against it.
    const feeding = ill.asked$.subscribe(() => {
      const name = `more-${String(ill.asked)}`;
      if (ill.asked < 200) void put(name).then(() => more.next(name));
    });
    expect(await failed).to.deep.include({ name: 'b' });
    feeding.unsubscribe();
    running.stop();
    expect(await running.finished).to.include({ failed: 1 });
    await run(graph(files(films), [ill.node('ill')]));
    expect(ill.names).to.include.members(['a', 'c', 'd', 'e', 'f']);
  });

  it('refuses at once a film that the sink rejects, and retries after other errors', async () => {
    await put('a', 'b');
    const never = new Receiver(() => Promise.reject(new RxrayError('FRAME_SINK', 'no')));
    const broken = new Receiver(() => Promise.reject(new Error('broken')));
    const summary = await run(
      graph(files(['a', 'b']), [
        never.node('never'),
        broken.node('broken', { onError: 'continue', retry: { ...retry, giveUpAfterMs: 60_000 } }),
      ]),
    );
    expect(summary).to.include({ done: 0, failed: 2, waiting: 0 });
    expect([never.asked, broken.asked]).to.deep.equal([2, 6]);
  });

  describe('a film that two sinks refuse', () => {
    const refuse = (): Promise<void> => Promise.reject(new RxrayError('FRAME_SINK', 'no'));
    const late = (): Receiver => {
      const receiver: Receiver = new Receiver(() => (receiver.asked === 1 ? down() : refuse()));
      return receiver;
    };

    it('fails once when both refuse it late', async () => {
      await put('a');
      const [one, two] = [late(), late()];
      const summary = await run(graph(files(['a']), [one.node('one'), two.node('two')]));
      expect(summary).to.include({ done: 0, failed: 1, waiting: 0 });
      expect([one.asked, two.asked]).to.deep.equal([2, 2]);
    });

    it('fails once when one refuses it late, while the other has it', async () => {
      await put('a');
      const settled = new Subject<void>();
      const other = new Receiver(() => firstValueFrom(settled).then(refuse));
      const running = await startPipeline(
        graph(files(['a']), [late().node('late'), other.node('other')]),
        host,
        once,
      );
      running.settled$.subscribe(() => {
        settled.next();
      });
      expect(await running.finished).to.include({ done: 0, failed: 1, waiting: 0 });
      expect(other.asked).to.equal(1);
    });
  });

  it('ends the run with `onError: stop`, and takes the film again at the next start', async () => {
    await put('a');
    const broken = new Receiver(() => Promise.reject(new RxrayError('FRAME_SINK', 'no')));
    const stopping = graph(files(['a']), [broken.node('broken', { onError: 'stop' })]);
    const error = await run(stopping).catch((thrown: unknown) => thrown);
    expect(error).to.include({ code: 'RUN_STOPPED' });
    broken.take = () => undefined;
    expect(await run(stopping)).to.include({ done: 1 });
  });

  it('repeats the same content to an outbox sink after a crash, and skips sinks that have confirmed', async () => {
    await put('a');
    let results = 0;
    const stages = [work((frame) => ({ ...frame, results: { work: { kind: 'count', value: ++results } } }))];
    const well = new Receiver();
    const bodies: unknown[] = [];
    const ill = new Receiver(
      (group) => {
        bodies.push(...group.map(({ results: found }) => found.work));
        return down();
      },
      { outbox: true },
    );
    const crashing = await startPipeline(
      graph(files(['a']), [well.node('well'), ill.node('ill')], { stages, shutdownTimeoutMs: 0 }),
      host,
    );
    await firstValueFrom(ill.asked$);
    crashing.stop();
    await crashing.finished;
    ill.take = (group) => void bodies.push(...group.map(({ results: found }) => found.work));
    await run(graph(files(['a']), [well.node('well'), ill.node('ill')], { stages }));
    expect(new Set(bodies.map((body) => JSON.stringify(body))).size).to.equal(1);
    expect([well.frames.length, ill.frames.length]).to.deep.equal([1, 1]);
  });

  it('gives images only to sinks that need them', async () => {
    await put('a');
    const image = { width: 1, height: 1, channels: 1 as const, data: Uint8Array.of(7) };
    const stages = [
      work((frame) => ({ ...frame, image, results: { work: { kind: 'map', map: image, score: 1 } } })),
    ];
    const [plain, seeing] = [new Receiver(), new Receiver(undefined, { pixels: true })];
    await run(graph(files(['a']), [plain.node('plain'), seeing.node('seeing')], { stages }));
    expect(plain.frames[0]).to.not.have.any.keys('image', 'encoded');
    expect(plain.frames[0]?.results.work).to.deep.equal({ kind: 'map', score: 1 });
    expect(seeing.frames[0]?.image).to.equal(image);
  });

  it('skips the stages for a duplicate with `duplicates: skip`, and names the original', async () => {
    await put('a');
    await writeFile(join(dir, 'b'), 'a');
    let worked = 0;
    const stages = [work((frame) => (++worked, frame))];
    const [all, some] = [new Receiver(), new Receiver()];
    const pipeline = graph(
      files(['a', 'b']),
      [all.node('all'), some.node('some', { when: 'has(results.work)' })],
      {
        stages: stages.map((stage) => ({ ...stage, when: 'size(results) == 0' })),
        duplicates: 'skip',
        // One after the other: which of two is the earlier is a matter of chance otherwise.
        limits: { frames: 1, bytes: 1e6, minFreeBytes: 0 },
      },
    );
    const summary = await run(pipeline);
    expect(summary).to.include({ done: 2, failed: 0 });
    expect(some.frames).to.deep.equal([]);
    expect(worked).to.equal(1);
    const second = all.frames.find(({ results }) => 'duplicate' in results);
    expect(second?.origin.name).to.equal('b');
    expect(second?.results.duplicate).to.include({ kind: 'duplicate', of: 'a' });
  });

  it('processes the copies of a film that fails, with `duplicates: skip`', async () => {
    await put('a');
    for (const copy of ['b', 'c']) await writeFile(join(dir, copy), 'a');
    const seen: string[] = [];
    const process: FrameStage['process'] = async (frame) => {
      seen.push(frame.origin.name);
      await new Promise(setImmediate);
      if (frame.origin.name === 'a') throw new Error('out of memory on the device');
      return frame;
    };
    const sink = new Receiver();
    const pipeline = graph(files(['a', 'b', 'c']), [sink.node('one')], {
      stages: [work(process)],
      duplicates: 'skip',
      limits: { frames: 3, bytes: 1e6, minFreeBytes: 0 },
    });
    const { done, failed } = await run(pipeline);
    // Which of the three is read first is a matter of chance: if it is not `a`, that is a copy of one that is done.
    expect(seen).to.have.length(seen[0] === 'a' ? 2 : 1);
    expect([done, failed]).to.deep.equal(seen[0] === 'a' ? [2, 1] : [3, 0]);
  });

  it('continues without a sink whose write does not return, and names it', async () => {
    await put(...films);
    const [hanging, other] = [new Receiver(() => new Promise(() => undefined)), new Receiver()];
    const pipeline = graph(files(films), [
      hanging.node('hanging', { timeoutMs: 20, retry: { ...retry, giveUpAfterMs: 0 } }),
      other.node('other'),
    ]);
    expect(await run(pipeline)).to.include({ done: 0, failed: 0, waiting: 6 });
    expect(other.names).to.deep.equal(films);
    expect(logged.join()).to.match(/the sink is down.*a write has not returned after 20 ms/);
  });

  it('removes the dead-letter entry of an unreadable file when it has been read', async () => {
    await put('a');
    const unreadable = async (name: string): Promise<Candidate> => ({
      ...(await candidate(name)),
      error: new RxrayError('FRAME_UNREADABLE', 'permission denied'),
    });
    const create = () => ({ candidates$: from(unreadable('a')) });
    const plugin = defineSource({ name: 'list', summary: 'Test.', options, create });
    const letters = () => readdir(join(dir, '.rxray', 'deadletter'));
    const first = graph({ id: 'files', use: 'list', plugin, ...entry }, [new Receiver().node('one')]);
    expect(await run(first)).to.include({ failed: 1 });
    expect(await letters()).to.have.length(1);
    expect(await run(graph(files(['a']), [new Receiver().node('one')]))).to.include({ done: 1 });
    expect(await letters()).to.deep.equal([]);
  });

  it('continues an interrupted run with --again', async () => {
    await put(...films);
    const receiver = new Receiver();
    const pipeline = () => graph(files(films), [receiver.node('one')], { shutdownTimeoutMs: 0 });
    await run(pipeline());
    const cut = await startPipeline(pipeline(), host, { again: true });
    await firstValueFrom(cut.settled$);
    cut.stop();
    const { done } = await cut.finished;
    expect(done).to.be.within(1, 5);
    expect(await run(pipeline())).to.include({ done: 6 - done, already: done });
    expect(logged.join()).to.match(/--again was interrupted/);
    expect(await run(pipeline())).to.include({ done: 0, already: 6 });
  });

  it('processes failed films again with --failed', async () => {
    await put('a', 'b');
    const receiver = new Receiver(([frame]) => {
      if (frame?.origin.name === 'a') throw new RxrayError('FRAME_SINK', 'no');
    });
    const pipeline = () => graph(files(['a', 'b']), [receiver.node('one')]);
    expect(await run(pipeline())).to.include({ done: 1, failed: 1 });
    receiver.take = () => undefined;
    expect(await run(pipeline())).to.include({ done: 0, failedBefore: 1, already: 1 });
    expect(await run(pipeline(), { once: true, failed: true } as typeof once)).to.include({
      done: 1,
      already: 1,
    });
    expect(receiver.names).to.deep.equal(['a', 'b']);
  });

  it('ends in time when it is stopped, and leaves unfinished films to the next start', async () => {
    await put('a');
    const never = new Promise<Frame>(() => undefined);
    const receiver = new Receiver();
    const started = new Subject<void>();
    const hanging = [work(() => (started.next(), never))];
    const running = await startPipeline(
      graph(files(['a']), [receiver.node('one')], { stages: hanging, shutdownTimeoutMs: 10 }),
      host,
    );
    await firstValueFrom(started);
    running.stop();
    expect(await running.finished).to.include({ done: 0, failed: 0, unfinished: 1 });
    expect(await run(graph(files(['a']), [receiver.node('one')]))).to.include({ done: 1 });
  });

  it('admits nothing while the disk is nearly full', async () => {
    await put('a');
    const receiver = new Receiver();
    const limits = { frames: 2, bytes: 1e6, minFreeBytes: Number.MAX_SAFE_INTEGER };
    const running = await startPipeline(graph(files(['a']), [receiver.node('one')], { limits }), host);
    while (!logged.some((line) => line.includes('the disk is nearly full'))) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    running.stop();
    expect(await running.finished).to.include({ done: 0 });
  });

  describe('another graph', () => {
    const settled = (running: PipelineRun, name: string) =>
      firstValueFrom(running.settled$.pipe(filter((film) => film.name === name)));

    it('takes over between two films, with the same sinks, and the old one is disposed of', async () => {
      await put('a', 'b');
      const more = new Subject<string>();
      const receiver = new Receiver();
      const mark = (value: number) =>
        work((frame) => ({ ...frame, results: { work: { kind: 'mark', value } } }));
      const pipeline = (value: number) =>
        graph(files(['a'], more), [receiver.node('one')], { stages: [mark(value)], hash: String(value) });
      const running = await startPipeline(pipeline(1), host);
      await settled(running, 'a');
      await running.reload(pipeline(2));
      const taken = settled(running, 'b');
      while (!more.observed) await new Promise((resolve) => setImmediate(resolve));
      more.next('b');
      expect((await taken).graph).to.equal('2');
      running.stop();
      expect(await running.finished).to.include({ done: 2, already: 1, otherGraph: 1 });
      expect(receiver.frames.map(({ results }) => results.work)).to.deep.equal([
        { kind: 'mark', value: 1 },
        { kind: 'mark', value: 2 },
      ]);
    });

    it('replaces one in which a film hangs after its time limit, and processes the film again', async () => {
      await put('a');
      const receiver = new Receiver();
      const started = new Subject<void>();
      const pipeline = (stage: StageNode, shutdownTimeoutMs: number) =>
        graph(files(['a'], NEVER), [receiver.node('one')], { stages: [stage], shutdownTimeoutMs });
      const hanging = work(() => (started.next(), new Promise<Frame>(() => undefined)));
      const running = await startPipeline(pipeline(hanging, 10), host);
      await firstValueFrom(started);
      const taken = settled(running, 'a');
      await running.reload(pipeline(work(), 10));
      expect(await taken).to.include({ outcome: 'done' });
      expect(logged.join()).to.include('the new graph starts without waiting for 1 film');
      running.stop();
      expect(await running.finished).to.include({ done: 1, failed: 0 });
    }).timeout(30_000);

    it('is refused while another takes over, or when the run is stopped meanwhile', async () => {
      await put('a');
      const held = new Subject<void>();
      const receiver = new Receiver();
      let disposed = 0;
      const pipeline = (createMs: number, stage = work()) => {
        const create = async () => {
          await delay(createMs);
          return { process: (frame: Frame) => frame, dispose: () => void (disposed += 1) };
        };
        const stages = [
          createMs === 0 ? stage : { ...stage, plugin: { ...stage.plugin, create } as StageNode['plugin'] },
        ];
        return graph(files(['a'], NEVER), [receiver.node('one')], { stages });
      };
      const holding = work(async (frame) => (await firstValueFrom(held, { defaultValue: undefined }), frame));
      const running = await startPipeline(pipeline(0, holding), host);
      const taken = settled(running, 'a');
      const first = running.reload(pipeline(20));
      const second = running.reload(pipeline(40)).catch((error: unknown) => String(error));
      expect(await second).to.match(/another graph is taking over/);
      expect(disposed).to.equal(1);
      held.complete();
      await taken;
      await first;
      const late = running.reload(pipeline(200)).catch((error: unknown) => String(error));
      await delay(50);
      running.stop();
      await running.finished;
      expect(await late).to.match(/the run (has ended|is being stopped)/);
      expect(disposed).to.equal(3);
    });

    it('is refused, and the old one continues, if one of its stages or sinks cannot be created', async () => {
      await put('a', 'b');
      const more = new Subject<string>();
      const receiver = new Receiver();
      const fine = graph(files(['a'], more), [receiver.node('one')]);
      const running = await startPipeline(fine, host);
      await settled(running, 'a');
      const refuse = () => Promise.reject(new Error('told to refuse'));
      const stage = work();
      const sink = receiver.node('one');
      const wrong = [
        { ...fine, stages: [{ ...stage, plugin: { ...stage.plugin, create: refuse } }] },
        { ...fine, sinks: [{ ...sink, plugin: { ...sink.plugin, create: refuse } }] },
        { ...fine, stateDir: join(dir, 'elsewhere') },
      ];
      for (const pipeline of wrong) {
        const error = await running.reload(pipeline).catch((thrown: unknown) => thrown);
        expect(String(error)).to.match(/told to refuse|`state:` cannot be changed/);
      }
      const taken = settled(running, 'b');
      while (!more.observed) await new Promise((resolve) => setImmediate(resolve));
      more.next('b');
      await taken;
      running.stop();
      expect(await running.finished).to.include({ done: 2, failed: 0 });
    });
  });
});
