import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { Dispatcher } from '../../src/cluster/dispatcher.js';
import type { Assignment, Beat, Result } from '../../src/cluster/protocol.js';
import type { Processed, Reference } from '../../src/core/flow/elsewhere.js';

const LEASE = 1000;
const nothing = (): void => undefined;

describe('the dispatcher', () => {
  let time: number;
  let sent: { worker: string; seq: number; films: readonly Assignment[] }[];
  let dispatcher: Dispatcher;
  let outcomes: Map<string, Processed | Error | null>;

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
  /** By the films' names, once they have been handed over. */
  const ids = new Map<string, string>();
  const film = (name: string): Reference => ({
    source: 'inbox',
    candidate: { path: `/films/${name}`, name, size: 1, mtimeMs: 1 },
    receivedAt: '2026-01-01T00:00:00Z',
  });
  function offer(...names: string[]): void {
    for (const name of names) {
      void dispatcher.process(film(name), never).then(
        (processed) => outcomes.set(name, processed),
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
      const held = films.map(({ id, attempt }): [string, number] => [id, attempt]);
      for (const { id, candidate } of films) ids.set(candidate.name, id);
      holding.set(worker, [...(holding.get(worker) ?? []), ...held]);
      seqs.set(worker, seq);
      return `${worker}: ${films.map(({ candidate }) => candidate.name).join(' ')}`;
    });
    return lines.sort();
  }
  const seqs = new Map<string, number>();
  const attemptOf = (worker: string, name: string): number =>
    holding.get(worker)?.findLast(([id]) => id === ids.get(name))?.[1] ?? 0;
  async function made(worker: string, name: string, attempt = attemptOf(worker, name)): Promise<void> {
    const id = ids.get(name) ?? '';
    dispatcher.result(worker, 'g', { id, attempt, outcome: { kind: 'made', sha256: 'a1', findings: {} } });
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
    expect([...outcomes.keys()]).to.deep.equal(['a']);
    expect(outcomes.get('a')).to.deep.include({ sha256: 'a1', findings: {} });
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
    beat('five');
    dispatcher.tick();
    // `four` may have died before the film arrived.
    expect(await handed()).to.deep.equal(['five: poison']);
    expect(outcomes.has('poison')).to.equal(false);
    beat('five', hold('five'));
    time += LEASE + 1;
    beat('three', hold('three'));
    dispatcher.tick();
    await setImmediate();
    expect(outcomes.get('poison')).to.have.property('code', 'FRAME_CRASH');
    expect(outcomes.get('innocent')).to.have.property('sha256', 'a1');
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

  it('asks another worker for a film that one does not find, and gives up after so many attempts', async () => {
    const unseen = (worker: string, name: string, reason?: string): void => {
      const [id = '', attempt] = [ids.get(name), attemptOf(worker, name)];
      dispatcher.result(worker, 'g', { id, attempt, outcome: { kind: 'unseen', ...(reason && { reason }) } });
      holding.clear();
    };
    offer('a', 'b');
    beat('one');
    expect(await handed()).to.deep.equal(['one: a b']);
    beat('two', { room: 1 });
    unseen('one', 'a');
    expect(await handed()).to.deep.equal(['two: a']);
    unseen('two', 'a');
    beat('one', hold('one'));
    await setImmediate();
    expect(outcomes.get('a')).to.equal(null);
    expect(await handed()).to.deep.equal(['one: b']);
    unseen('one', 'b');
    expect(await handed()).to.deep.equal(['two: b']);
    unseen('two', 'b', 'no credentials');
    await setImmediate();
    expect(outcomes.get('b')).to.include({ code: 'FRAME_UNREADABLE', message: 'no credentials' });
  });

  it('tells a film that cannot be read from one that a stage fails on', async () => {
    offer('a', 'b');
    beat('one');
    await handed();
    const fail = (name: string, sha256?: string): void => {
      const error = { code: 'FRAME_STAGE', message: 'no image' } as const;
      const outcome: Result['outcome'] = { kind: 'failed', error, ...(sha256 !== undefined && { sha256 }) };
      dispatcher.result('one', 'g', { id: ids.get(name) ?? '', attempt: attemptOf('one', name), outcome });
    };
    fail('a');
    fail('b', 'b1');
    await setImmediate();
    expect(outcomes.get('a')).to.have.property('code', 'FRAME_STAGE');
    expect(outcomes.get('b')).to.have.property('sha256', 'b1');
    expect(outcomes.get('b')).to.have.nested.property('error.code', 'FRAME_STAGE');
  });

  it('drops the films of a graph that is given up', async () => {
    const abort = new AbortController();
    void dispatcher.process(film('a'), abort.signal);
    abort.abort();
    beat('one');
    expect(await handed()).to.deep.equal([]);
    expect(dispatcher.load).to.include({ waiting: 0, working: 0 });
  });
});
