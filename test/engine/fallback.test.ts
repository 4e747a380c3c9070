import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { Engine, EngineError, traceToOnnx } from '../../src/engine/index.js';
import { EngineSession } from '../../src/engine/session.js';
import { useCpuBackend } from './support.js';

/** The failing device is a stand-in, since a GPU cannot be made to fail at will; the CPU that goes on is the real one. */
describe('a session whose device fails', () => {
  const x = { data: Float32Array.of(1, 2, 3), dims: [3] };
  let engine: Engine;
  let asked: number;
  let told: string[];
  let bytes: Uint8Array;

  before(async () => {
    await useCpuBackend();
    ({ bytes } = traceToOnnx(({ x: input }) => ({ y: tf.mul(input as tf.Tensor, 2) }), {
      x: { shape: [3] },
    }));
  });

  beforeEach(() => {
    engine = new Engine();
    asked = 0;
    told = [];
  });
  afterEach(() => engine.dispose());

  async function failing(
    code: 'run-failed' | 'worker-gone',
    load: () => Promise<EngineSession>,
  ): Promise<EngineSession> {
    const { inputs, outputs, metadata } = await engine.load(bytes);
    return new EngineSession({
      id: 1,
      name: 'doubling',
      device: 'webgpu',
      description: { inputs, outputs, metadata },
      state: engine.createState(),
      call: () => {
        asked += 1;
        return Promise.reject(new EngineError(code, 'the device was lost'));
      },
      fallback: { load, used: (reason) => told.push(reason) },
    });
  }

  it('continues on the CPU, says so once, and does not use the device again', async () => {
    const session = await failing('run-failed', () => engine.load(bytes));
    for (let run = 0; run < 3; run++) {
      const { y } = await session.run({ x });
      expect([...(y?.data ?? [])]).to.deep.equal([2, 4, 6]);
    }
    expect(asked).to.equal(1);
    expect(told).to.deep.equal(['the device was lost']);
  });

  it('stays with the device when the CPU fails too, and passes the CPU’s reason on', async () => {
    const session = await failing('run-failed', () =>
      failing('run-failed', () => Promise.reject(new Error('no further fallback'))),
    );
    for (let run = 1; run <= 2; run++) {
      const error = await session.run({ x }).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(String(error)).to.contain('no further fallback');
    }
    expect(told).to.deep.equal([]);
  });

  it('does not hide that the whole engine is gone', async () => {
    const session = await failing('worker-gone', () => engine.load(bytes));
    const error = await session.run({ x }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).to.have.property('code', 'worker-gone');
    expect(told).to.deep.equal([]);
  });
});
