import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { types } from 'node:util';
import { expect } from 'chai';
import type { Container } from 'inversify';
import { bufferCount, concat, defer, from, mergeMap, NEVER, of, tap, type Observable } from 'rxjs';
import { z } from 'zod';
import type { Pipeline, SinkNode, StageNode } from '../../src/core/config/pipeline.js';
import { createProcessContainer } from '../../src/core/container.js';
import { RxrayError } from '../../src/core/errors.js';
import type { Frame } from '../../src/core/frame.js';
import { CreateError } from '../../src/core/run/create.js';
import {
  defineSink,
  defineSource,
  defineStage,
  type Candidate,
  type SinkInstance,
  type StageInstance,
} from '../../src/core/plugin.js';
import { loadPluginModule } from '../../src/core/plugins/load.js';
import type { Settled } from '../../src/core/flow/settled.js';
import { startPipeline, type RunOptions, type Summary } from '../../src/core/run.js';

const location = { line: 1, column: 1 };
const options = z.strictObject({});
const retry = { attempts: 2, backoffMs: 1, maxBackoffMs: 10, giveUpAfterMs: 200 };
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const countBytesUrl = new URL('./support/count-bytes.ts', import.meta.url).href;

describe('startPipeline', () => {
  let dir: string;
  let host: Container;
  /** What the source was told became of each file. */
  let told: string[];
  let disposed: string[];

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-run-'));
    host = createProcessContainer(silent);
    told = [];
    disposed = [];
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  async function put(files: Record<string, string>): Promise<void> {
    for (const [name, text] of Object.entries(files)) await writeFile(join(dir, name), text);
  }

  async function candidate(name: string): Promise<Candidate> {
    const path = join(dir, name);
    const { size, mtimeMs } = await stat(path);
    return { path, name, size, mtimeMs };
  }

  /** A source that offers `names`; then ends, or goes on for ever. */
  function source(names: readonly string[], extra: Observable<Candidate> = from([]), id = 'files') {
    const plugin = defineSource({
      name: 'list',
      summary: 'Offers files of a list.',
      options,
      create: (_, { once, unsettled }) => ({
        candidates$: concat(
          defer(async () => unsettled(await Promise.all(names.map(candidate)))).pipe(
            mergeMap((list) => from(list)),
          ),
          extra,
          once ? from([]) : NEVER,
        ),
        settle: (file, outcome) => {
          told.push(`${file.name} ${outcome}`);
          return Promise.resolve();
        },
        dispose: () => void disposed.push(id),
      }),
    });
    return { id, use: 'list', plugin, url: '', settings: {}, written: {}, location };
  }

  function stage(id: string, instance: StageInstance, node: Partial<StageNode> = {}): StageNode {
    const plugin = defineStage({
      name: id,
      summary: 'Test.',
      options,
      runsIn: 'main',
      create: () => instance,
    });
    return { id, use: id, plugin, url: '', settings: {}, written: {}, location, from: ['files'], ...node };
  }

  async function counting(node: Partial<StageNode> = {}): Promise<StageNode> {
    const plugin = (await loadPluginModule(countBytesUrl)) as StageNode['plugin'];
    return {
      id: 'count',
      use: './count-bytes.ts',
      plugin,
      url: countBytesUrl,
      settings: { refuse: false },
      written: {},
      location,
      from: ['files'],
      ...node,
    };
  }

  function sink(id: string, write: SinkInstance['write'], node: Partial<SinkNode> = {}): SinkNode {
    const plugin = defineSink({
      name: id,
      summary: 'Test.',
      options,
      maxBatch: 4,
      pixels: true,
      create: () => ({ write, dispose: () => void disposed.push(id) }),
    });
    const from = ['count'];
    return {
      id,
      use: id,
      plugin,
      url: '',
      settings: {},
      written: {},
      location,
      from,
      retry,
      timeoutMs: 60_000,
      ...node,
    };
  }

  function memory(): { frames: Frame[]; write: SinkInstance['write'] } {
    const frames: Frame[] = [];
    return { frames, write: (group) => (frames.push(...group), Promise.resolve()) };
  }

  function pipeline(parts: Pick<Pipeline, 'sources' | 'stages' | 'sinks'> & Partial<Pipeline>): Pipeline {
    return {
      file: join(dir, 'p.yaml'),
      baseDir: dir,
      stateDir: join(dir, '.rxray'),
      name: 'p',
      hash: 'h',
      duplicates: 'process',
      shutdownTimeoutMs: 10_000,
      limits: { frames: 4, bytes: 1e6, minFreeBytes: 0 },
      ...parts,
    };
  }

  async function run(
    graph: Pipeline,
    runOptions: RunOptions = { once: true },
  ): Promise<{ summary: Summary; films: Settled[] }> {
    const films: Settled[] = [];
    const running = await startPipeline(graph, host, runOptions);
    running.settled$.subscribe({ next: (film) => films.push(film), error: () => undefined });
    return { summary: await running.finished, films };
  }

  it('passes a stage the services that it needs, and names one that the process does not have', async () => {
    class Clock {
      readonly name = 'the clock';
    }
    const asking = (got: string[]): StageNode => ({
      ...stage('asks', { process: (frame) => frame }),
      plugin: defineStage({
        name: 'asks',
        summary: 'Test.',
        options,
        runsIn: 'main',
        needs: { clock: Clock },
        create(_, { clock }) {
          got.push(clock.name);
          return { process: (frame) => frame };
        },
      }),
    });
    const got: string[] = [];
    const graph = pipeline({
      sources: [source([])],
      stages: [asking(got)],
      sinks: [sink('one', memory().write, { from: ['asks'] })],
    });
    const error = await run(graph).catch((thrown: unknown) => thrown);
    expect(error).to.be.instanceOf(CreateError);
    expect((error as CreateError).message).to.equal('asks: this process has no service `Clock`');
    host.bind(Clock).toConstantValue(new Clock());
    await run(graph);
    expect(got).to.deep.equal(['the clock']);
  });

  it('delivers every file through worker threads to every sink, and closes everything', async () => {
    await put({ 'a.png': 'a', 'b.png': 'bb', 'c.png': 'ccc' });
    const [one, two] = [memory(), memory()];
    const { summary, films } = await run(
      pipeline({
        sources: [source(['a.png', 'b.png', 'c.png'])],
        stages: [await counting()],
        sinks: [sink('one', one.write), sink('two', two.write)],
      }),
    );
    expect(summary).to.include({ done: 3, failed: 0, already: 0 });
    expect(films.map(({ name, outcome }) => `${name} ${outcome}`).sort()).to.deep.equal([
      'a.png done',
      'b.png done',
      'c.png done',
    ]);
    for (const { frames } of [one, two]) {
      expect(Object.fromEntries(frames.map((f) => [f.origin.name, f.results.count]))).to.deep.equal({
        'a.png': { kind: 'count', value: 1 },
        'b.png': { kind: 'count', value: 2 },
        'c.png': { kind: 'count', value: 3 },
      });
      expect(frames.every((f) => types.isSharedArrayBuffer(f.image?.data.buffer))).to.equal(true);
      expect(frames.every((f) => f.completedAt !== undefined)).to.equal(true);
    }
    expect(told.sort()).to.deep.equal(['a.png done', 'b.png done', 'c.png done']);
    expect(disposed.sort()).to.deep.equal(['files', 'one', 'two']);
  });

  it('keeps the stages of all worker threads until the end, whatever messages the threads exchange', async () => {
    const names = Array.from({ length: 40 }, (_, index) => `${String(index)}.png`);
    await put(Object.fromEntries(names.map((name) => [name, name])));
    const { summary } = await run(
      pipeline({
        sources: [source(names)],
        stages: [await counting()],
        sinks: [sink('one', memory().write)],
        limits: { frames: 40, bytes: 1e6, minFreeBytes: 0 },
      }),
    );
    expect(summary).to.include({ done: 40, failed: 0 });
  });

  it('keeps a failing file with its reason, and goes on', async () => {
    await put({ 'a.png': 'fine', 'b.png': 'bad film' });
    const { frames, write } = memory();
    const { summary, films } = await run(
      pipeline({
        sources: [source(['a.png', 'b.png'])],
        stages: [await counting()],
        sinks: [sink('one', write)],
      }),
    );
    expect(summary).to.include({ done: 1, failed: 1 });
    expect(frames.map((f) => f.origin.name)).to.deep.equal(['a.png']);
    const failed = films.find(({ outcome }) => outcome === 'failed');
    expect(failed?.failure).to.include({
      code: 'FRAME_STAGE',
      component: 'count',
      message: 'cannot do "bad film"',
    });
    const letter = join(dir, '.rxray/deadletter', failed?.id ?? '');
    expect(await readFile(join(letter, 'b.png'), 'utf8')).to.equal('bad film');
    expect(JSON.parse(await readFile(join(letter, 'reason.json'), 'utf8'))).to.include({
      file: 'b.png',
      code: 'FRAME_STAGE',
      stage: 'count',
      graph: 'h',
    });
    expect(await readFile(join(dir, 'b.png'), 'utf8')).to.equal('bad film');
    expect(told.sort()).to.deep.equal(['a.png done', 'b.png failed']);
  });

  it('repeats nothing after a restart, except with `again`', async () => {
    await put({ 'a.png': 'a', 'b.png': 'bad' });
    const { frames, write } = memory();
    const graph = async (): Promise<Pipeline> =>
      pipeline({
        sources: [source(['a.png', 'b.png'])],
        stages: [await counting()],
        sinks: [sink('one', write)],
      });
    await run(await graph());
    expect((await run(await graph())).summary).to.include({
      done: 0,
      failed: 0,
      already: 1,
      failedBefore: 1,
    });
    expect((await run(await graph(), { once: true, again: true })).summary).to.include({
      done: 1,
      failed: 1,
      already: 0,
    });
    expect(frames.map((f) => f.origin.name)).to.deep.equal(['a.png', 'a.png']);
  });

  it('goes on with `again` after a stop before the source had offered everything', async () => {
    await put({ 'a.png': 'a', 'b.png': 'b' });
    const { write } = memory();
    const slow = defer(() => new Promise<void>((resolve) => setTimeout(resolve, 600))).pipe(
      mergeMap(() => from([]) as Observable<Candidate>),
    );
    const graph = async (names: readonly string[], extra?: Observable<Candidate>): Promise<Pipeline> =>
      pipeline({ sources: [source(names, extra)], stages: [await counting()], sinks: [sink('one', write)] });
    await run(await graph(['a.png', 'b.png']));
    const running = await startPipeline(await graph([], slow), host, { once: true, again: true });
    setTimeout(() => running.stop(), 50);
    expect(await running.finished).to.include({ done: 0 });
    expect((await run(await graph(['a.png', 'b.png']))).summary).to.include({ done: 2, already: 0 });
  });

  it('recognises a file that was only touched, and takes one that was overwritten', async () => {
    await put({ 'a.png': 'a' });
    const { frames, write } = memory();
    const graph = async (): Promise<Pipeline> =>
      pipeline({ sources: [source(['a.png'])], stages: [await counting()], sinks: [sink('one', write)] });
    await run(await graph());
    await utimes(join(dir, 'a.png'), 1000, 1000);
    expect((await run(await graph())).summary).to.include({ done: 0, already: 1 });
    await put({ 'a.png': 'aa' });
    expect((await run(await graph())).summary).to.include({ done: 1, already: 0 });
    expect(new Set(frames.map(({ id }) => id)).size).to.equal(2);
  });

  it('gives files of the same bytes under two names two identities', async () => {
    await put({ 'a.png': 'same', 'b.png': 'same' });
    const { frames, write } = memory();
    await run(
      pipeline({
        sources: [source(['a.png', 'b.png'])],
        stages: [await counting()],
        sinks: [sink('one', write)],
      }),
    );
    expect(new Set(frames.map(({ id }) => id)).size).to.equal(2);
    expect(new Set(frames.map(({ origin }) => origin.sha256)).size).to.equal(1);
  });

  it('takes a file once, however often it is offered', async () => {
    await put({ 'a.png': 'a' });
    const { frames, write } = memory();
    const again = defer(() => candidate('a.png')).pipe(mergeMap((c) => of(c, c, c)));
    await run(
      pipeline({
        sources: [source(['a.png'], again)],
        stages: [await counting()],
        sinks: [sink('one', write)],
      }),
    );
    expect(frames).to.have.length(1);
  });

  it('leaves a file alone that changes while it is read, or is gone', async () => {
    await put({ 'a.png': 'a' });
    const { write } = memory();
    const stale: Candidate = { path: join(dir, 'a.png'), name: 'a.png', size: 1, mtimeMs: 5 };
    const gone: Candidate = { path: join(dir, 'gone.png'), name: 'gone.png', size: 1, mtimeMs: 5 };
    const running = await startPipeline(
      pipeline({
        sources: [source([], of(stale, gone))],
        stages: [await counting()],
        sinks: [sink('one', write)],
      }),
      host,
    );
    running.stop();
    const summary = await running.finished;
    expect(summary).to.include({ done: 0, failed: 0 });
  });

  it('fails files that must not be read, and files that are too large, without opening them', async () => {
    await put({ 'big.png': 'x'.repeat(2000) });
    const { write } = memory();
    const error = new RxrayError('FRAME_OUTSIDE', 'a link out of the folder');
    const link: Candidate = { path: '/etc/hostname', name: 'link.png', size: 5, mtimeMs: 1, error };
    const { films } = await run(
      pipeline({
        sources: [source(['big.png'], of(link))],
        stages: [await counting()],
        sinks: [sink('one', write)],
        limits: { frames: 4, bytes: 1000, minFreeBytes: 0 },
      }),
    );
    expect(films.map(({ name, failure }) => `${name} ${failure?.code ?? ''}`).sort()).to.deep.equal([
      'big.png FRAME_TOO_LARGE',
      'link.png FRAME_OUTSIDE',
    ]);
    const letters = await readdir(join(dir, '.rxray/deadletter'));
    const kept = await Promise.all(letters.map((id) => readdir(join(dir, '.rxray/deadletter', id))));
    expect(kept.map((names) => names.sort().join()).sort()).to.deep.equal(['reason.json', 'reason.json']);
  });

  it('joins branches, and routes frames by `when`', async () => {
    await put({ 'a.png': 'a', 'b.png': 'bbbbb' });
    const { frames, write } = memory();
    const long = memory();
    const mark = (id: string): StageInstance => ({
      process: (frame) => ({ ...frame, results: { ...frame.results, [id]: { kind: 'mark' } } }),
    });
    await run(
      pipeline({
        sources: [source(['a.png', 'b.png'])],
        stages: [
          await counting(),
          stage('left', mark('left'), { from: ['count'] }),
          stage('right', mark('right'), { from: ['count'], when: 'results.count.value > 3' }),
          stage('both', mark('both'), { from: ['left', 'right'] }),
        ],
        sinks: [
          sink('all', write, { from: ['both'] }),
          sink('long', long.write, { from: ['both'], when: '"right" in results' }),
        ],
      }),
    );
    expect(Object.fromEntries(frames.map((f) => [f.origin.name, Object.keys(f.results)]))).to.deep.equal({
      'a.png': ['count', 'left', 'both'],
      'b.png': ['count', 'left', 'right', 'both'],
    });
    expect(long.frames.map((f) => f.origin.name)).to.deep.equal(['b.png']);
  });

  it('merges several sources', async () => {
    await put({ 'a.png': 'a', 'b.png': 'b' });
    const { frames, write } = memory();
    await run(
      pipeline({
        sources: [source(['a.png']), source(['b.png'], from([]), 'more')],
        stages: [await counting({ from: ['files', 'more'] })],
        sinks: [sink('one', write)],
      }),
    );
    expect(frames.map((f) => `${f.origin.source} ${f.origin.name}`).sort()).to.deep.equal([
      'files a.png',
      'more b.png',
    ]);
  });

  it('holds no more frames in flight than the limits allow', async () => {
    const names = Array.from({ length: 12 }, (_, index) => `${String(index)}.png`);
    await put(Object.fromEntries(names.map((name) => [name, name])));
    let inFlight = 0;
    let most = 0;
    const slow: StageInstance = {
      process: async (frame) => {
        most = Math.max(most, ++inFlight);
        await new Promise((resolve) => setImmediate(resolve));
        inFlight -= 1;
        return frame;
      },
    };
    const { write } = memory();
    const { summary } = await run(
      pipeline({
        sources: [source(names)],
        stages: [stage('count', slow, { concurrency: 100 })],
        sinks: [sink('one', write)],
        limits: { frames: 3, bytes: 1e6, minFreeBytes: 0 },
      }),
    );
    expect(summary.done).to.equal(12);
    expect(most).to.be.at.most(3);
  });

  it('delivers a refused group one by one: only the frame at fault fails', async () => {
    const names = Array.from({ length: 6 }, (_, index) => `${String(index)}.png`);
    await put(Object.fromEntries(names.map((name) => [name, name])));
    const taken: string[] = [];
    const { films } = await run(
      pipeline({
        sources: [source(names)],
        stages: [await counting()],
        sinks: [
          sink('one', async (group) => {
            await new Promise((resolve) => setImmediate(resolve));
            if (group.some((f) => f.origin.name === '3.png')) throw new Error('not this one');
            taken.push(...group.map((f) => f.origin.name));
          }),
        ],
      }),
    );
    expect(taken.sort()).to.deep.equal(names.filter((name) => name !== '3.png'));
    expect(
      films
        .filter(({ outcome }) => outcome === 'failed')
        .map(({ name, failure }) => `${name} ${failure?.code ?? ''}`),
    ).to.deep.equal(['3.png FRAME_SINK']);
  });

  it('delivers a film to the other sinks when one refuses it, whoever is first', async () => {
    await put({ 'a.png': 'a' });
    const { frames, write } = memory();
    const slow: StageInstance = {
      process: async (frame) => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        return frame;
      },
    };
    const { films } = await run(
      pipeline({
        sources: [source(['a.png'])],
        stages: [await counting(), stage('slow', slow, { from: ['count'] })],
        sinks: [
          sink('dead', () => Promise.reject(new Error('nobody there'))),
          sink('late', write, { from: ['slow'] }),
        ],
      }),
    );
    expect(frames).to.have.length(1);
    expect(films[0]?.failure).to.include({ code: 'FRAME_SINK', component: 'dead' });
  });

  it('lets an operator collect frames, as a first stage, too', async () => {
    const names = Array.from({ length: 12 }, (_, index) => `${String(index)}.png`);
    await put(Object.fromEntries(names.map((name) => [name, name])));
    const { frames, write } = memory();
    const collecting: StageInstance = {
      operator: (input) =>
        input.pipe(
          bufferCount(12),
          mergeMap((all) => from(all)),
        ),
    };
    await run(
      pipeline({
        sources: [source(names)],
        stages: [stage('count', collecting)],
        sinks: [sink('one', write)],
        limits: { frames: 20, bytes: 1e6, minFreeBytes: 0 },
      }),
    );
    expect(frames).to.have.length(12);
  });

  it('runs without sinks, too', async () => {
    await put({ 'a.png': 'a', 'b.png': 'bad' });
    const { summary, films } = await run(
      pipeline({ sources: [source(['a.png', 'b.png'])], stages: [await counting()], sinks: [] }),
    );
    expect(summary).to.include({ done: 1, failed: 1 });
    expect(films.find(({ outcome }) => outcome === 'done')?.frame?.results.count).to.include({ value: 1 });
  });

  it('waits for a file that changes before it is read, if it will not be offered again', async () => {
    await put({ 'a.png': 'aaa' });
    const { frames, write } = memory();
    const stale = defer(() => candidate('a.png')).pipe(mergeMap((c) => of({ ...c, size: 1 })));
    await run(
      pipeline({ sources: [source([], stale)], stages: [await counting()], sinks: [sink('one', write)] }),
    );
    expect(frames.map((f) => f.results.count)).to.deep.equal([{ kind: 'count', value: 3 }]);
  });

  it('tries again to move a file that could not be moved', async () => {
    await put({ 'a.png': 'a' });
    const { write } = memory();
    const graph = async (): Promise<Pipeline> =>
      pipeline({ sources: [source(['a.png'])], stages: [await counting()], sinks: [sink('one', write)] });
    await run(await graph());
    await run(await graph());
    expect(told).to.deep.equal(['a.png done', 'a.png done']);
  });

  it('keeps only the bytes that failed in the dead letter', async () => {
    await put({ 'a.png': 'bad one' });
    const { write } = memory();
    const swapping: StageInstance = {
      process: async () => {
        await put({ 'a.png': 'something else' });
        throw new Error('too late');
      },
    };
    const { films } = await run(
      pipeline({
        sources: [source(['a.png'])],
        stages: [stage('count', swapping)],
        sinks: [sink('one', write)],
      }),
    );
    const letter = await readdir(join(dir, '.rxray/deadletter', films[0]?.id ?? ''));
    expect(letter).to.deep.equal(['reason.json']);
  });

  it('survives a stage that throws outside of its task', async () => {
    await put({ 'a.png': 'a', 'b.png': 'late' });
    const { write } = memory();
    const { summary } = await run(
      pipeline({
        sources: [source(['a.png', 'b.png'])],
        stages: [await counting()],
        sinks: [sink('one', write)],
      }),
    );
    expect(summary.done + summary.failed).to.equal(2);
  });

  it('ends when a sink cannot write any more, and settles nothing that was not delivered', async () => {
    await put({ 'a.png': 'a' });
    const full = (): Promise<void> => Promise.reject(new RxrayError('OUTPUT_UNWRITABLE', 'disk full'));
    const graph = async (write: SinkInstance['write']): Promise<Pipeline> =>
      pipeline({ sources: [source(['a.png'])], stages: [await counting()], sinks: [sink('one', write)] });
    const error = await run(await graph(full), {}).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).to.include({ code: 'OUTPUT_UNWRITABLE' });
    expect(disposed.sort()).to.deep.equal(['files', 'one']);
    const { frames, write } = memory();
    expect((await run(await graph(write))).summary).to.include({ done: 1, already: 0 });
    expect(frames).to.have.length(1);
  });

  it('stops on request, after finishing films in flight', async () => {
    await put({ 'a.png': 'a' });
    const { frames, write } = memory();
    const running = await startPipeline(
      pipeline({ sources: [source(['a.png'])], stages: [await counting()], sinks: [sink('one', write)] }),
      host,
    );
    running.settled$.pipe(tap(() => running.stop())).subscribe();
    expect(await running.finished).to.include({ done: 1 });
    expect(frames).to.have.length(1);
  });

  it('reports every plugin that cannot be created with its position, before anything starts', async () => {
    const refusing = await counting({ id: 'one', settings: { refuse: true } });
    const graph = pipeline({
      sources: [source([])],
      stages: [refusing, { ...refusing, id: 'two' }],
      sinks: [sink('s', memory().write, { from: ['two'] })],
    });
    const error = await startPipeline(graph, host, { once: true }).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).to.be.instanceOf(CreateError);
    expect(
      (error as CreateError).issues.map(({ component, code, message }) => [component, code, message]),
    ).to.deep.equal([
      ['one', 'CONFIG_CREATE', 'told to refuse'],
      ['two', 'CONFIG_CREATE', 'told to refuse'],
    ]);
  });

  it('refuses `batch:` for a stage that takes frames one by one', async () => {
    const graph = pipeline({
      sources: [source([])],
      stages: [await counting({ batch: { size: 2, waitMs: 1 } })],
      sinks: [sink('s', memory().write)],
    });
    const error = await startPipeline(graph, host, { once: true }).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error)
      .to.be.instanceOf(CreateError)
      .with.property('message')
      .match(/leave out `batch:`/);
  });

  it('refuses a journal that another run is using', async () => {
    const graph = async (): Promise<Pipeline> =>
      pipeline({ sources: [source([])], stages: [await counting()], sinks: [sink('s', memory().write)] });
    const running = await startPipeline(await graph(), host);
    const error = await startPipeline(await graph(), host).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).to.include({ code: 'STATE_LOCKED' });
    running.stop();
    await running.finished;
  });
});
