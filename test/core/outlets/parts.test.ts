import { expect } from 'chai';
import { RxrayError, Unavailable } from '../../../src/core/errors.js';
import type { Frame } from '../../../src/core/frame.js';
import { apart } from '../../../src/core/outlets/apart.js';
import { BoundedSink } from '../../../src/core/outlets/bounded-sink.js';
import { CircuitBreaker } from '../../../src/core/outlets/breaker.js';
import { Spill } from '../../../src/core/outlets/spill.js';
import { Strikes } from '../../../src/core/outlets/strikes.js';
import { Deliveries, frame } from './support.js';

const thrownBy = (act: Promise<unknown>): Promise<unknown> =>
  act.then(
    () => null,
    (thrown: unknown) => thrown,
  );

describe('the circuit breaker of a sink', () => {
  const retry = { backoffMs: 1000, maxBackoffMs: 4000 };

  it('is closed until the sink fails, and waits longer each time', () => {
    const breaker = new CircuitBreaker(retry);
    expect([breaker.isOpen, breaker.outageMs]).to.deep.equal([false, 0]);
    expect(breaker.waitMs).to.be.at.most(0);
    const waits = Array.from({ length: 8 }, () => {
      breaker.open();
      return breaker.waitMs;
    });
    expect(breaker.isOpen).to.equal(true);
    expect(Math.max(...waits)).to.be.within(1001, 4000);
    breaker.close();
    expect([breaker.isOpen, breaker.outageMs]).to.deep.equal([false, 0]);
  });

  it('waits as long as the receiver asks for, unless it is retried at once', () => {
    const breaker = new CircuitBreaker(retry);
    breaker.open(60_000);
    expect(breaker.waitMs).to.be.greaterThan(50_000);
    breaker.retryNow();
    expect(breaker.waitMs).to.be.at.most(0);
    expect(breaker.isOpen).to.equal(true);
  });
});

describe('the strikes of frames', () => {
  it('count every failure that is no outage', () => {
    const strikes = new Strikes();
    expect([
      strikes.strike('a', false),
      strikes.strike('a', false),
      strikes.strike('b', false),
    ]).to.deep.equal([1, 2, 1]);
    strikes.forget('a');
    expect(strikes.strike('a', false)).to.equal(1);
  });

  it('count an outage only when the sink has taken other frames since', () => {
    const strikes = new Strikes();
    expect([strikes.strike('a', true), strikes.strike('a', true)]).to.deep.equal([1, 1]);
    strikes.success();
    expect([strikes.strike('a', true), strikes.strike('a', true)]).to.deep.equal([2, 2]);
  });
});

describe('a group that is written', () => {
  async function attempts(write: (items: readonly number[]) => Promise<void>): Promise<unknown[]> {
    const seen: unknown[] = [];
    for await (const { items, thrown } of apart([1, 2, 3], write)) {
      seen.push([...items, ...(thrown === undefined ? [] : [(thrown as Error).message])]);
    }
    return seen;
  }

  it('is one attempt when the sink takes it', async () => {
    expect(await attempts(async () => undefined)).to.deep.equal([[1, 2, 3]]);
  });

  it('is written one by one when it fails, so that only the faulty item fails', async () => {
    const write = async (items: readonly number[]): Promise<void> => {
      if (items.includes(2)) throw new Error('not 2');
    };
    expect(await attempts(write)).to.deep.equal([[1], [2, 'not 2'], [3]]);
  });

  it('stays together in an outage and at a fatal error', async () => {
    for (const error of [new Unavailable('away'), new RxrayError('OUTPUT_UNWRITABLE', 'full')]) {
      expect(await attempts(() => Promise.reject(error))).to.deep.equal([[1, 2, 3, error.message]]);
    }
  });

  it('has failed, too, when nothing was thrown', async () => {
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- as a plugin in JavaScript may do
    const seen = await attempts((items) => (items.length > 1 ? Promise.reject() : Promise.resolve()));
    expect(seen).to.deep.equal([[1], [2], [3]]);
  });
});

describe('a sink with a bound', () => {
  it('passes on the result of a write in time', async () => {
    const sink = new BoundedSink({ write: () => Promise.reject(new Error('no')) }, 60_000);
    expect(await thrownBy(sink.write([frame('a')]))).to.include({ message: 'no' });
    const rude = { write: () => { throw new Error('at once'); } }; // prettier-ignore
    expect(await thrownBy(new BoundedSink(rude, 60_000).write([frame('a')]))).to.include({
      message: 'at once',
    });
  });

  it('is down while a write does not return, and counts its frames as delivered when it has', async () => {
    let finish: () => void = () => undefined;
    let returned: () => void = () => undefined;
    const back = new Promise<void>((resolve) => (returned = resolve));
    const written: string[][] = [];
    const slow = {
      write: (frames: readonly Frame[]) => {
        written.push(frames.map(({ id }) => id));
        return written.length > 1 ? Promise.resolve() : new Promise<void>((done) => (finish = done));
      },
    };
    const sink = new BoundedSink(slow, 5, () => returned());
    expect(await thrownBy(sink.write([frame('a'), frame('b')]))).to.include({
      code: 'SINK_UNAVAILABLE',
      message: 'a write has not returned after 5 ms',
    });
    expect(await thrownBy(sink.write([frame('c')]))).to.include({ code: 'SINK_UNAVAILABLE' });
    finish();
    await back;
    await sink.write([frame('a'), frame('c')]);
    await sink.write([frame('b')]);
    expect(written).to.deep.equal([['a', 'b'], ['c']]);
  });

  it('writes frames again whose late write has failed', async () => {
    let fail: (error: Error) => void = () => undefined;
    let returned: () => void = () => undefined;
    const back = new Promise<void>((resolve) => (returned = resolve));
    let asked = 0;
    const slow = {
      write: () => {
        asked += 1;
        return asked > 1 ? Promise.resolve() : new Promise<void>((_, reject) => (fail = reject));
      },
    };
    const sink = new BoundedSink(slow, 5, () => returned());
    await thrownBy(sink.write([frame('a')]));
    fail(new Error('gone'));
    await back;
    await sink.write([frame('a')]);
    expect(asked).to.equal(2);
  });
});

describe('the frames that wait in the journal', () => {
  it('come oldest first, without those that failed, and again from the first', async () => {
    const deliveries = new Deliveries();
    const spill = new Spill('csv', deliveries);
    for (const id of ['a', 'b', 'c']) await spill.put(frame(id));
    const [first] = await spill.take(1);
    expect(first?.frame).to.deep.equal(frame('a'));
    if (first !== undefined) spill.passOver(first);
    expect((await spill.take(5)).map(({ film }) => film.id)).to.deep.equal(['b', 'c']);
    deliveries.remove('b');
    deliveries.remove('c');
    expect((await spill.take(5)).map(({ film }) => film.id)).to.deep.equal(['a']);
    if (first !== undefined) spill.passOver(first);
    spill.rewind();
    expect(await spill.take(5)).to.have.length(1);
    deliveries.remove('a');
    expect(await spill.take(5)).to.deep.equal([]);
  });
});
