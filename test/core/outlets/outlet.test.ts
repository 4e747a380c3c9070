import { expect } from 'chai';
import { RxrayError, Unavailable } from '../../../src/core/errors.js';
import type { Frame } from '../../../src/core/frame.js';
import type { Trouble } from '../../../src/core/monitor/meter.js';
import { Outlet, type OutletOptions } from '../../../src/core/outlets/outlet.js';
import { Deliveries, frame } from './support.js';

describe('an outlet', () => {
  let deliveries: Deliveries;
  let written: string[][];
  let late: [string, unknown][];
  let outages: (Trouble | null)[];
  let logged: string[];

  beforeEach(() => {
    deliveries = new Deliveries();
    written = [];
    late = [];
    outages = [];
    logged = [];
  });

  /** An outlet to a sink that does `take` with each group, and then has it. */
  function outlet(
    take: (ids: readonly string[]) => Promise<void> | void,
    rest: Partial<OutletOptions> = {},
  ): Outlet {
    const say = (fields: object, message: string): void =>
      void logged.push(`${JSON.stringify(fields)} ${message}`);
    return new Outlet({
      id: 'csv',
      sink: {
        write: async (frames: readonly Frame[]) => {
          const ids = frames.map(({ id }) => id);
          await take(ids);
          written.push(ids);
        },
      },
      maxBatch: 2,
      pixels: false,
      outbox: false,
      retry: { attempts: 2, backoffMs: 1, maxBackoffMs: 2, giveUpAfterMs: 60_000 },
      timeoutMs: 60_000,
      onError: 'deadLetter',
      journal: deliveries,
      parked: 0,
      confirms: true,
      once: true,
      onLate: async (film, _, thrown) => {
        late.push([film.id, thrown]);
        deliveries.remove(film.id);
      },
      onOutage: (outage) => outages.push(outage),
      log: { debug: say, info: say, warn: say, error: say },
      ...rest,
    });
  }

  /** Delivers the frames, ends the outlet, and returns what became of each. */
  async function through(it: Outlet, ids: readonly string[]): Promise<string[]> {
    const running = it.run();
    const answers = await Promise.all(ids.map((id) => it.deliver(frame(id))));
    it.end();
    await running;
    return answers.map(({ kind }) => kind);
  }

  it('takes frames in order and in groups, and confirms each', async () => {
    expect(
      await through(
        outlet(() => undefined),
        ['a', 'b', 'c'],
      ),
    ).to.deep.equal(['confirm', 'confirm', 'confirm']);
    expect(written.flat()).to.deep.equal(['a', 'b', 'c']);
    expect(written.length).to.be.lessThan(3);
    expect(deliveries.confirmed).to.deep.equal(['a', 'b', 'c']);
    expect(outages).to.deep.equal([]);
  });

  it('parks frames while the sink is down, and delivers them when it is up again', async () => {
    let trials = 0;
    const it = outlet(() => {
      trials += 1;
      if (trials < 4) throw new Unavailable('away');
    });
    expect(await through(it, ['a', 'b', 'c'])).to.deep.equal(['park', 'park', 'park']);
    expect(late.map(([id]) => id).sort()).to.deep.equal(['a', 'b', 'c']);
    expect(outages[0]).to.include({ message: 'away' });
    expect(outages.at(-1)).to.equal(null);
    expect(logged.join()).to.match(/"sink":"csv"\} the sink is down, .*away.*the sink is up again/);
  });

  it('answers the frames of a write in progress when it is to finish, and starts no other', async () => {
    let begin = (): void => undefined;
    let end = (): void => undefined;
    const begun = new Promise<void>((resolve) => (begin = resolve));
    const it = outlet(
      () => {
        begin();
        return new Promise<void>((resolve) => (end = resolve));
      },
      { maxBatch: 1 },
    );
    const running = it.run();
    const answers: string[] = [];
    for (const id of ['a', 'b'])
      void it.deliver(frame(id)).then(({ kind }) => answers.push(`${id}: ${kind}`));
    await begun;
    const finished = it.finish();
    end();
    await finished;
    expect(answers).to.deep.equal(['a: confirm']);
    expect(written).to.deep.equal([['a']]);
    it.close();
    await running;
  });

  it('is down when a write does not return in time', async () => {
    let release: () => void = () => undefined;
    let writes = 0;
    const it = outlet(
      () => {
        writes += 1;
        return writes > 1 ? undefined : new Promise<void>((resolve) => (release = resolve));
      },
      { timeoutMs: 5 },
    );
    const running = it.run();
    expect((await it.deliver(frame('a'))).kind).to.equal('park');
    expect((await it.deliver(frame('b'))).kind).to.equal('park');
    expect(outages.map((outage) => outage?.message)).to.deep.equal(['a write has not returned after 5 ms']);
    release();
    it.end();
    await running;
    // The late write has delivered it: it is not written twice.
    expect(written).to.deep.equal([['a'], ['b']]);
    expect(late).to.deep.equal([
      ['a', undefined],
      ['b', undefined],
    ]);
  });

  it('refuses a frame that the sink rejects, and one that it fails on too often', async () => {
    const it = outlet((ids) => {
      if (ids.includes('b')) throw new RxrayError('FRAME_SINK', 'not this one');
    });
    expect(await through(it, ['a', 'b', 'c'])).to.deep.equal(['confirm', 'refuse', 'confirm']);
    expect(await through(outlet((ids) => { if (ids.includes('b')) throw new Error('broken'); }), ['b', 'c'])).to.deep.equal(['park', 'park']); // prettier-ignore
    expect(Object.fromEntries(late)).to.have.property('c', undefined);
    expect(Object.fromEntries(late)['b']).to.include({ message: 'broken' });
  });

  it('gives up after `giveUpAfterMs` with once, and leaves the rest in the journal', async () => {
    const it = outlet(() => Promise.reject(new Unavailable('away')), {
      retry: { attempts: 2, backoffMs: 1, maxBackoffMs: 2, giveUpAfterMs: 20 },
    });
    expect(await through(it, ['a', 'b'])).to.deep.equal(['park', 'park']);
    expect(deliveries.rows.size).to.equal(2);
    expect(late).to.deep.equal([]);
  });

  it('ends the run if the output cannot be written, or with `onError: stop`', async () => {
    const full = new RxrayError('OUTPUT_UNWRITABLE', 'full');
    const refusal = new RxrayError('FRAME_SINK', 'no');
    for (const [it, code] of [
      [outlet(() => Promise.reject(full)), 'OUTPUT_UNWRITABLE'],
      [outlet(() => Promise.reject(refusal), { onError: 'stop' }), 'RUN_STOPPED'],
    ] as const) {
      const running = it.run().catch((thrown: unknown) => thrown);
      void it.deliver(frame('a'));
      expect(await running).to.include({ code });
    }
  });

  it('keeps the frames of an outbox in the journal before the first attempt', async () => {
    const it = outlet(() => void expect(deliveries.rows.size).to.equal(1), { outbox: true });
    expect(await through(it, ['a'])).to.deep.equal(['confirm']);
    expect(deliveries.rows.size).to.equal(0);
  });
});
