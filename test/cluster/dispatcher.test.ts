import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { Dispatcher } from '../../src/cluster/dispatcher.js';
import type { Assignment, Beat } from '../../src/cluster/protocol.js';
import type { Findings } from '../../src/core/graph/remote.js';
import { makeFrame } from '../../src/testing.js';

const LEASE = 1000;
const nothing = (): void => undefined;

describe('the dispatcher', () => {
  let time: number;
  let sent: { worker: string; seq: number; films: readonly Assignment[] }[];
  let dispatcher: Dispatcher;
  let outcomes: Map<string, Findings | Error>;

  beforeEach(() => {
    time = 0;
    sent = [];
    outcomes = new Map();
    dispatcher = new Dispatcher({
      leaseMs: LEASE,
      attempts: 2,
      log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
      now: () => time,
      assign: (worker, seq, films) => sent.push({ worker, seq, films }),
    });
    dispatcher.use('g');
  });

  const never = new AbortController().signal;
  /** Films by their names, and the films' ids. */
  const ids = new Map<string, string>();
  function offer(...names: string[]): void {
    for (const name of names) {
      const frame = makeFrame({ name, image: null });
      ids.set(name, frame.id);
      const candidate = { path: `/films/${name}`, name, size: 1, mtimeMs: 1 };
      void dispatcher.process({ frame, candidate }, never).then(
        (findings) => outcomes.set(name, findings),
        (error: unknown) => outcomes.set(name, error as Error),
      );
    }
  }
  const holding = new Map<string, [string, number][]>();
  function beat(worker: string, more: Partial<Omit<Beat, 'stages'>> = {}): void {
    const seq = sent.filter((each) => each.worker === worker).at(-1)?.seq ?? 0;
    const held = holding.get(worker) ?? [];
    const said = { name: `${worker}:1`, through: 0, busySeconds: 0, room: 4 };
    dispatcher.beat({ kind: 'beat', worker, epoch: 1, graph: 'g', seq, holding: held, ...said, ...more });
  }
  /** What was handed over since the last call: `worker: names`. The workers hold it from now on. */
  async function handed(): Promise<string[]> {
    await setImmediate();
    await setImmediate();
    const lines = sent.splice(0).map(({ worker, seq, films }) => {
      const held = films.map(({ frame, attempt }): [string, number] => [frame.id, attempt]);
      holding.set(worker, [...(holding.get(worker) ?? []), ...held]);
      seqs.set(worker, seq);
      return `${worker}: ${films.map(({ frame }) => frame.origin.name).join(' ')}`;
    });
    return lines.sort();
  }
  const seqs = new Map<string, number>();
  const attemptOf = (worker: string, name: string): number =>
    holding.get(worker)?.findLast(([id]) => id === ids.get(name))?.[1] ?? 0;
  async function made(worker: string, name: string, attempt = attemptOf(worker, name)): Promise<void> {
    const id = ids.get(name) ?? '';
    dispatcher.result(worker, 'g', { id, attempt, outcome: { kind: 'made', findings: { csv: null } } });
    holding.set(
      worker,
      (holding.get(worker) ?? []).filter(([each]) => each !== id),
    );
    await setImmediate();
  }
  const hold = (worker: string): Partial<Beat> => ({ seq: seqs.get(worker) ?? 0 });

  beforeEach(() => {
    holding.clear();
    seqs.clear();
  });

  it('assigns films up to the capacity of workers, and only to workers with their graph', async () => {
    offer('a', 'b', 'c', 'd', 'e');
    beat('old', { graph: 'other' });
    beat('one');
    expect(await handed()).to.deep.equal(['one: a b c d']);
    beat('one', hold('one'));
    expect(await handed()).to.deep.equal([]);
    await made('one', 'a');
    expect(await handed()).to.deep.equal(['one: e']);
  });

  it('accepts a result once, and only of the present attempt', async () => {
    offer('a');
    beat('one');
    await handed();
    const first = attemptOf('one', 'a');
    dispatcher.handBack('one', [ids.get('a') ?? '']);
    holding.clear();
    expect(await handed()).to.deep.equal(['one: a']);
    await made('one', 'a', first);
    expect(outcomes.size).to.equal(0);
    await made('two', 'a', first + 1);
    expect(outcomes.size).to.equal(0);
    await made('one', 'a', first + 1);
    await made('one', 'a', first + 1);
    expect([...outcomes]).to.deep.equal([['a', { csv: null }]]);
  });

  it('assigns a film again whose assignment or result was lost', async () => {
    offer('a');
    beat('one');
    await handed();
    holding.clear();
    // It has got the message after that with the film.
    beat('one', hold('one'));
    expect(await handed()).to.deep.equal(['one: a']);
    holding.clear();
    // No message has come after it: it may still be on its way, but not for longer than a lease.
    beat('one', { seq: 0 });
    expect(await handed()).to.deep.equal([]);
    time += LEASE + 1;
    beat('one', { seq: 0 });
    expect(await handed()).to.deep.equal(['one: a']);
  });

  it('runs the films of a dead worker alone, and fails the one that ends workers when it is alone', async () => {
    offer('poison', 'innocent');
    beat('one');
    expect(await handed()).to.deep.equal(['one: poison innocent']);
    time += LEASE + 1;
    beat('two');
    beat('three');
    dispatcher.tick();
    // Half of the workers at most are for films that run alone.
    expect(await handed()).to.deep.equal(['two: poison']);
    offer('another');
    beat('two', hold('two'));
    beat('three', hold('three'));
    expect(await handed()).to.deep.equal(['three: innocent']);
    beat('three', hold('three'));
    expect(await handed()).to.deep.equal([]);
    await made('three', 'innocent');
    expect(await handed()).to.deep.equal(['three: another']);
    time += LEASE + 1;
    beat('three', hold('three'));
    beat('four');
    dispatcher.tick();
    // `two` has died of it, alone.
    expect(await handed()).to.deep.equal(['four: poison']);
    expect(outcomes.has('poison')).to.equal(false);
    time += LEASE + 1;
    beat('three', hold('three'));
    dispatcher.tick();
    await setImmediate();
    expect(outcomes.get('poison')).to.have.property('code', 'FRAME_CRASH');
    expect(outcomes.get('innocent')).to.deep.equal({ csv: null });
    await made('three', 'another');
    expect(dispatcher.load).to.deep.equal({ waiting: 0, working: 0, workers: 1 });
  });

  it('suspects no film of a worker that responds again, nor if all stop responding together', async () => {
    offer('a');
    beat('one');
    beat('two', { room: 0 });
    await handed();
    time += LEASE + 1;
    beat('two', { room: 0 });
    dispatcher.tick();
    expect(await handed()).to.deep.equal([]);
    beat('one', hold('one'));
    offer('b');
    // Both go to one worker: neither has to be alone.
    expect(await handed()).to.deep.equal(['one: a b']);

    time += LEASE + 1;
    dispatcher.tick();
    holding.clear();
    beat('three');
    expect(await handed()).to.deep.equal(['three: a b']);
  });

  it('ends no lease while it is disconnected', async () => {
    offer('a');
    beat('one');
    await handed();
    dispatcher.connected(false);
    time += 10 * LEASE;
    dispatcher.tick();
    dispatcher.connected(true);
    dispatcher.tick();
    expect(dispatcher.load).to.deep.equal({ waiting: 0, working: 1, workers: 1 });
  });

  it('fails a film that workers do not find', async () => {
    offer('a');
    beat('one');
    await handed();
    const unseen = (): void => {
      const id = ids.get('a') ?? '';
      dispatcher.result('one', 'g', { id, attempt: attemptOf('one', 'a'), outcome: { kind: 'unseen' } });
      holding.clear();
    };
    unseen();
    expect(await handed()).to.deep.equal(['one: a']);
    unseen();
    await setImmediate();
    expect(outcomes.get('a')).to.have.property('code', 'FRAME_UNREADABLE');
  });

  it('drops the films of a graph that is given up', async () => {
    const abort = new AbortController();
    const frame = makeFrame({ name: 'a', image: null });
    void dispatcher.process(
      { frame, candidate: { path: 'a', name: 'a', size: 1, mtimeMs: 1 } },
      abort.signal,
    );
    abort.abort();
    beat('one');
    expect(await handed()).to.deep.equal([]);
    expect(dispatcher.load).to.include({ waiting: 0, working: 0 });
  });
});
