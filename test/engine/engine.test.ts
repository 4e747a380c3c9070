import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { firstValueFrom } from 'rxjs';
import {
  compile,
  Engine,
  EngineError,
  NEXT,
  scalar,
  traceToOnnx,
  type EngineSession,
  type HostTensor,
  type TraceableFunction,
} from '../../src/engine/index.js';
import { tinyModel } from '../support/onnx-models.js';
import { fill } from './kernel-cases.js';
import { numbers, useCpuBackend } from './support.js';

/** The rejection of a promise that must fail with an engine error. */
async function rejection(promise: Promise<unknown>): Promise<EngineError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
  throw new Error('Expected a rejection.');
}

/** Gives the engine no pause until a second lane has the model, and is idle for a moment. */
async function fillLanes(engine: Engine, session: EngineSession): Promise<void> {
  let isFull = false;
  const keepRunning = async (): Promise<void> => {
    while (!isFull) await session.run({ x: vector(1, 2, 3) });
  };
  const runs = [keepRunning(), keepRunning(), keepRunning()];
  await firstValueFrom(engine.idle$);
  isFull = true;
  await Promise.all(runs);
}

const vector = (...values: number[]): HostTensor => ({
  data: Float32Array.from(values),
  dims: [values.length],
});
const double: TraceableFunction = ({ x }) => ({ y: tf.mul(x as tf.Tensor, 2) });
const doubling = (): Uint8Array =>
  traceToOnnx(double, { x: { shape: [3] } }, { metadata: { 'rxray.model': 'doubling' } }).bytes;
/** The same, after so much other work that its thread is busy, and hardly any other. */
const working = (): Uint8Array =>
  traceToOnnx(
    ({ x }) => {
      const grid = tf.mul(tf.fill([400, 400], 1e-9), tf.slice(x as tf.Tensor1D, [0], [1]));
      const nothing = tf.mul(tf.mean(tf.matMul(grid as tf.Tensor2D, grid as tf.Tensor2D)), 1e-35);
      return { y: tf.add(tf.mul(x as tf.Tensor, 2), nothing) };
    },
    { x: { shape: [3] } },
    { metadata: {} },
  ).bytes;
/** total += x; returns the old total. */
const adding = (): Uint8Array =>
  traceToOnnx(
    ({ x }, { total }) => ({
      before: tf.mul(total as tf.Tensor, 1),
      [`${NEXT}total`]: tf.add(total as tf.Tensor, x as tf.Tensor),
    }),
    { x: { shape: [2] } },
    { variables: { total: vector(0, 0) } },
  ).bytes;

describe('Engine', () => {
  let engine: Engine;

  before(useCpuBackend);
  beforeEach(() => {
    engine = new Engine();
  });
  afterEach(() => engine.dispose());

  it('runs a model in its worker and leaves the caller its buffers', async () => {
    const session = await engine.load(doubling(), { device: 'cpu' });
    const x = vector(1, 2, 3);
    const { y } = await session.run({ x });
    expect(numbers(y)).to.deep.equal([2, 4, 6]);
    expect(numbers(x)).to.deep.equal([1, 2, 3]);
    expect(session.inputs).to.deep.equal([{ name: 'x', dtype: 'float32', dims: [3] }]);
    expect(session.outputs.map(({ name }) => name)).to.deep.equal(['y']);
    expect(session.metadata['rxray.model']).to.equal('doubling');
  });

  it('takes a view into a larger buffer, and shared memory', async () => {
    const session = await engine.load(doubling(), { device: 'cpu' });
    const pool = new Float32Array(new SharedArrayBuffer(40)).fill(5);
    const { y } = await session.run({ x: { data: pool.subarray(2, 5), dims: [3] } });
    expect(numbers(y)).to.deep.equal([10, 10, 10]);
  });

  it('loads a model from a path', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rxray-engine-'));
    try {
      const path = join(folder, 'doubling.onnx');
      await writeFile(path, doubling());
      const session = await engine.load(path, { device: 'cpu' });
      expect(session.name).to.equal(path);
      expect(numbers((await session.run({ x: vector(1, 2, 3) }))['y'])).to.deep.equal([2, 4, 6]);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('rejects a damaged model, a missing file and bytes that are no model, naming them', async () => {
    const bytes = doubling();
    for (const damaged of [
      bytes.slice(0, bytes.length >> 1),
      new Uint8Array(0),
      Buffer.from('no model at all'),
    ]) {
      const error = await rejection(engine.load(damaged, { name: 'lungs', device: 'cpu' }));
      expect(error.code).to.equal('bad-model');
      expect(error.message).to.match(/"lungs"/);
    }
    expect((await rejection(engine.load('/nowhere/model.onnx', { device: 'cpu' }))).message).to.match(
      /nowhere/,
    );
    const session = await engine.load(bytes, { device: 'cpu' });
    expect((await session.run({ x: vector(1, 1, 1) }))['y']?.dims).to.deep.equal([3]);
  });

  it('rejects a wrong shape, type, name or element count, saying what was expected', async () => {
    const session = await engine.load(doubling(), { device: 'cpu', name: 'doubling' });
    const shape = await rejection(session.run({ x: vector(1, 2) }));
    expect(shape.code).to.equal('bad-feed');
    expect(shape.message).to.match(/"doubling".*"x": float32 \[3\].*float32 \[2\]/);
    expect(
      (await rejection(session.run({ x: { data: Int32Array.of(1, 2, 3), dims: [3] } }))).message,
    ).to.match(/int32/);
    expect((await rejection(session.run({ z: vector(1) }))).message).to.match(/no input "z"/);
    expect((await rejection(session.run({}))).message).to.match(/got nothing/);
    expect((await rejection(session.run({ x: { data: new Float32Array(2), dims: [3] } }))).message).to.match(
      /2 elements/,
    );
  });

  it('keeps state in the worker between steps and shares it between sessions', async () => {
    const state = engine.createState();
    const first = await engine.load(adding(), { device: 'cpu', state });
    const second = await engine.load(adding(), { device: 'cpu', state });
    await state.set({ total: vector(0, 0) });
    for (let step = 0; step < 5; step++) await (step % 2 ? first : second).step({ x: vector(1, step) });
    const results = await first.step({ x: vector(0, 0) });
    expect(Object.keys(results)).to.deep.equal(['before']);
    expect(numbers(results['before'])).to.deep.equal([5, 10]);
    const { total } = await state.get();
    expect(numbers(total)).to.deep.equal([5, 10]);
  });

  it('says which state is missing', async () => {
    const session = await engine.load(adding(), { device: 'cpu', name: 'adding' });
    const error = await rejection(session.step({ x: vector(1, 1) }));
    expect(error.code).to.equal('missing-state');
    expect(error.message).to.match(/"adding".*"total"/);
    expect((await rejection(session.getState(['nothing']))).message).to.match(/"nothing"/);
  });

  it('keeps filters in the order of convolutions, and hands them out in TensorFlow’s', async () => {
    const kernel = fill([3, 2, 4, 5], 1);
    const { bytes } = traceToOnnx(
      ({ x }, { kernel: k }) => ({
        y: tf.conv2d(x as tf.Tensor4D, k as tf.Tensor4D, 1, 'same'),
        [`${NEXT}kernel`]: tf.mul(k as tf.Tensor, 2),
      }),
      { x: { shape: [1, 4, 4, 4] } },
      { variables: { kernel } },
    );
    const session = await engine.load(bytes, { device: 'cpu' });
    await session.setState({ kernel });
    await session.step({ x: fill([1, 4, 4, 4], 2) });
    const { kernel: doubled } = await session.getState();
    expect(doubled).to.deep.equal({
      dims: kernel.dims,
      data: (kernel.data as Float32Array).map((value) => 2 * value),
    });
  });

  it('reports when it is idle', async () => {
    const session = await engine.load(doubling(), { device: 'cpu' });
    expect(engine.idle).to.equal(true);
    const idle = firstValueFrom(engine.idle$);
    const runs = [1, 2, 3].map(() => session.run({ x: vector(1, 2, 3) }));
    expect(engine.idle).to.equal(false);
    await idle;
    expect(engine.idle).to.equal(true);
    await Promise.all(runs);
  });

  it('runs a model in a second lane from the time when the first has no pause, and processors have', async function () {
    if (availableParallelism() < 2) return this.skip();
    const two = new Engine({ lanes: () => 2 });
    try {
      const session = await two.load(working(), { device: 'cpu' });
      const run = async (value: number): Promise<number[]> =>
        Array.from((await session.run({ x: vector(value, 0, 0) }))['y']?.data as Float32Array);
      expect(await run(1)).to.deep.equal([2, 0, 0]);
      expect([two.free, two.idle]).to.deep.equal([true, true]);
      await fillLanes(two, session);
      const long = run(4);
      expect([two.free, two.idle]).to.deep.equal([true, false]);
      const short = run(5);
      expect([two.free, two.idle]).to.deep.equal([false, false]);
      expect(await Promise.all([long, short])).to.deep.equal([
        [8, 0, 0],
        [10, 0, 0],
      ]);
      await session.dispose();
      expect((await rejection(run(6))).code).to.equal('run-failed');
      const other = await two.load(doubling(), { device: 'cpu' });
      const waiting = [1, 2, 3].map((value) => rejection(other.run({ x: vector(value, 0, 0) })));
      two.giveUp('It takes too long.');
      for (const error of await Promise.all(waiting)) expect(error.message).to.equal('It takes too long.');
    } finally {
      await two.dispose();
    }
  });

  it('takes sessions of a higher priority first', async () => {
    const low = await engine.load(doubling(), { device: 'cpu' });
    const high = await engine.load(doubling(), { device: 'cpu', priority: 1 });
    const order: string[] = [];
    const run = async (session: typeof low, name: string): Promise<void> => {
      await session.run({ x: vector(1, 2, 3) });
      order.push(name);
    };
    await Promise.all([run(low, 'low 1'), run(low, 'low 2'), run(high, 'high')]);
    expect(order).to.deep.equal(['low 1', 'high', 'low 2']);
  });

  it('rejects runs of a disposed session and goes on with others', async () => {
    const gone = await engine.load(doubling(), { device: 'cpu' });
    const kept = await engine.load(doubling(), { device: 'cpu' });
    await gone.dispose();
    expect((await rejection(gone.run({ x: vector(1, 2, 3) }))).message).to.match(/disposed/);
    expect((await kept.run({ x: vector(1, 2, 3) }))['y']?.dims).to.deep.equal([3]);
  });

  it('rejects everything that waits when it is disposed', async () => {
    const session = await engine.load(doubling(), { device: 'cpu' });
    const waiting = [1, 2, 3].map(() => rejection(session.run({ x: vector(1, 2, 3) })));
    await engine.dispose();
    for (const error of await Promise.all(waiting)) expect(error.code).to.equal('worker-gone');
    expect((await rejection(engine.load(doubling()))).code).to.equal('worker-gone');
    await engine.dispose();
  });

  it('lets a run end when it is disposed of, since ONNX Runtime would abort the process', async () => {
    const network = fileURLToPath(new URL('../../models/chest-resnet/model.onnx', import.meta.url));
    const films = { data: new Float32Array(16 * 128 * 128), dims: [16, 128, 128, 1] };
    for (const lanes of [1, 2]) {
      const busy = new Engine({ lanes: () => lanes });
      const session = await busy.load(network, { device: 'cpu' });
      const runs = [1, 2, 3].map(() => rejection(session.run({ images: films })));
      await delay(20);
      await busy.dispose();
      for (const error of await Promise.all(runs)) expect(error.code).to.equal('worker-gone');
    }
  });

  it('compiles a function into a callable', async () => {
    const scaled = await compile(
      engine,
      ({ x }, { factor }) => ({ y: tf.mul(x as tf.Tensor, factor as tf.Tensor) }),
      { x: { shape: [1, 2] } },
      { variables: { factor: scalar(3) }, batch: 'symbolic', device: 'cpu' },
    );
    const { y } = await scaled({ x: { data: Float32Array.of(1, 2, 3, 4), dims: [2, 2] } });
    expect(numbers(y)).to.deep.equal([3, 6, 9, 12]);
    await scaled.dispose();
  });

  describe('in a process of its own', () => {
    const film = (level: number): HostTensor => ({
      data: new Float32Array(1024).fill(level),
      dims: [1, 1, 32, 32],
    });
    let apart: Engine;
    beforeEach(() => {
      apart = new Engine({ apart: true });
    });
    afterEach(() => apart.dispose());

    it('answers as its worker thread does, with numbers of every type', async () => {
      const session = await apart.load(doubling(), { device: 'cpu' });
      expect(numbers((await session.run({ x: vector(1, 2, 3) }))['y'])).to.deep.equal([2, 4, 6]);
      await session.state.set({ count: { data: BigInt64Array.of(7n, -1n), dims: [2] } });
      expect((await session.state.get())['count']?.data).to.deep.equal(BigInt64Array.of(7n, -1n));
      const error = await rejection(apart.load(Buffer.from('no model'), { device: 'cpu' }));
      expect(error.code).to.equal('bad-model');
    });

    it('is ended when it is given up, whatever a model does, and rejects what waits and what comes', async () => {
      const { bytes } = tinyModel({ weights: [1], endlessAbove: 0.5 });
      const session = await apart.load(bytes, { device: 'cpu' });
      expect(numbers((await session.run({ film: film(0.25) }))['scores'])).to.deep.equal([0.25]);
      const runs = Promise.all([0.75, 0.25].map((level) => rejection(session.run({ film: film(level) }))));
      apart.giveUp('It takes too long.');
      for (const error of [...(await runs), await rejection(session.run({ film: film(0) }))]) {
        expect([error.code, error.message]).to.deep.equal(['worker-gone', 'It takes too long.']);
      }
    });

    it('is given up when a call exceeds its time limit', async () => {
      const hasty = new Engine({ apart: true, limitMs: 1 });
      const error = await rejection(hasty.load(doubling(), { name: 'slow', device: 'cpu' }));
      expect(error.message).to.equal('The model "slow" did not answer within 0.001 s.');
      await hasty.dispose();
    });
  });

  it('keeps its memory over a thousand runs', async () => {
    const big = traceToOnnx(double, { x: { shape: [100_000] } }).bytes;
    const session = await engine.load(big, { device: 'cpu' });
    const x = fill([100_000], 1);
    const run = async (times: number): Promise<void> => {
      for (let index = 0; index < times; index++) await session.run({ x });
    };
    await run(300);
    const before = process.memoryUsage().rss;
    await run(1000);
    // Each run moves 0.8 MB: a leak would be 800 MB.
    expect(process.memoryUsage().rss - before).to.be.below(200e6);
  }).timeout(60_000);
});
