import { expect } from 'chai';
import { EngineError } from '../../src/engine/index.js';
import { RebuiltOnce } from '../../src/plugins/shared/rebuilt-once.js';

describe('a native session', () => {
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  let opened: number;
  let disposed: number;
  const open = (): Promise<{ number: number; dispose(): Promise<void> }> => {
    const number = ++opened;
    const dispose = (): Promise<void> => {
      disposed += 1;
      return Promise.resolve();
    };
    return Promise.resolve({ number, dispose });
  };
  const failing =
    (code: 'run-failed' | 'worker-gone' | 'bad-feed', until: number) =>
    ({ number }: { number: number }): Promise<number> =>
      number < until ? Promise.reject(new EngineError(code, 'broken')) : Promise.resolve(number);

  beforeEach(() => {
    opened = 0;
    disposed = 0;
  });

  it('that fails is created again, and the work is repeated with the new one', async () => {
    const sessions = await RebuiltOnce.open(open, log, 'classes');
    const runs = await Promise.all([
      sessions.use(failing('run-failed', 2)),
      sessions.use(failing('run-failed', 2)),
    ]);
    expect(runs).to.deep.equal([2, 2]);
    expect([opened, disposed]).to.deep.equal([2, 1]);
  });

  it('is created again once: a second failure is that of the film', async () => {
    const sessions = await RebuiltOnce.open(open, log, 'classes');
    for (let i = 0; i < 3; i++) {
      const error = await sessions.use(failing('run-failed', 9)).catch((thrown: unknown) => thrown);
      expect(error).to.include({ code: 'run-failed' });
    }
    expect(opened).to.equal(2);
  });

  it('ends the run when it cannot be created again', async () => {
    const once = (): ReturnType<typeof open> =>
      opened === 0 ? open() : Promise.reject(new EngineError('bad-model', 'bad allocation'));
    const sessions = await RebuiltOnce.open(once, log, 'classes');
    const error = await sessions.use(failing('run-failed', 9)).catch((thrown: unknown) => thrown);
    expect(error).to.include({ code: 'RUN_STOPPED', component: 'classes' });
  });

  it('is not created again for a film that does not fit', async () => {
    const sessions = await RebuiltOnce.open(open, log, 'classes');
    const error = await sessions.use(failing('bad-feed', 9)).catch((thrown: unknown) => thrown);
    expect(error).to.include({ code: 'bad-feed' });
    expect(opened).to.equal(1);
  });

  it('ends the run when the engine is gone, instead of failing every film', async () => {
    const sessions = await RebuiltOnce.open(open, log, 'classes');
    const error = await sessions.use(failing('worker-gone', 9)).catch((thrown: unknown) => thrown);
    expect(error).to.include({ code: 'RUN_STOPPED', component: 'classes' });
  });
});
