import { RxrayError } from '../core/errors.js';
import type { Processed, Reference } from '../core/flow/elsewhere.js';
import type { Log } from '../core/plugin.js';
import { fromPlainError } from '../core/workers/protocol.js';
import type { Assignment, Beat, Result } from './protocol.js';

export interface DispatcherOptions {
  /** A worker that sends nothing for longer loses its films. */
  readonly leaseMs: number;
  /** A film fails after this many workers died while it was their only film, or did not find its file. */
  readonly attempts: number;
  /** Sends films to a worker. The message may be lost. */
  readonly assign: (worker: string, seq: number, films: readonly Assignment[], isAlone: boolean) => void;
  readonly log: Log;
  /** Called after results, just before films are assigned: one write for all messages costs less than several. */
  readonly onGroup?: () => void;
  /** Films and results that come within this time are handed on together. Default: those of one turn of the event loop. */
  readonly groupMs?: number;
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number;
}

/** A film that is not done. */
interface Task {
  readonly id: string;
  readonly film: Reference;
  readonly signal: AbortSignal;
  readonly resolve: (processed: Processed | null) => void;
  readonly reject: (error: Error) => void;
  attempt: number;
  /** Number of workers that died while it was their only film. */
  deaths: number;
  /** How often a worker did not find its file, and the last that did not. */
  unseen: number;
  unseenBy: string | undefined;
  /** The worker that stopped responding while it had the film: until it responds again, the film is processed alone. */
  suspect: string | undefined;
  worker: Worker | undefined;
  /** The number and time of the message that assigned it. */
  seq: number;
  sentAt: number;
  /** Whether the worker has said that it has the film. */
  hasArrived: boolean;
}

/** A worker with a valid lease. */
interface Worker {
  readonly id: string;
  readonly tasks: Set<Task>;
  graph: string | null;
  room: number;
  name: string;
  through: number;
  busySeconds: number;
  heardAt: number;
  seq: number;
  /** It has a film that is suspected of crashing workers, and gets no other. */
  isAlone: boolean;
}

/**
 * Assigns films to workers, with leases. A film is with one worker at a time; each assignment has a new attempt number,
 * and results of earlier attempts are dropped. A worker that stops responding loses its films. One of them may have
 * crashed it, so each is next processed alone, on a worker without other films; only a film that crashes workers when
 * it is alone fails. If the worker responds again, its films are no longer suspected. If all workers stop responding
 * together, no film is suspected: the cause is the network.
 */
export class Dispatcher {
  readonly #now: () => number;
  /** Functions that end the films of a graph. */
  readonly #signals = new WeakSet<AbortSignal>();
  readonly #tasks = new Map<string, Task>();
  readonly #workers = new Map<string, Worker>();
  #waiting = new Set<Task>();
  readonly #suspects = new Set<Task>();
  #graph = '';
  /** Number of films so far. */
  #films = 0;
  #isConnected = true;
  #isPlanned = false;
  /** Results that have not been handed on. */
  #results: (() => void)[] = [];

  constructor(private readonly options: DispatcherOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  /** Numbers of waiting films, assigned films, and workers. */
  get load(): { waiting: number; working: number; workers: number } {
    const waiting = this.#waiting.size + this.#suspects.size;
    return { waiting, working: this.#tasks.size - waiting, workers: this.#workers.size };
  }

  /** What the workers said last. */
  get workers(): readonly Pick<Worker, 'id' | 'name' | 'tasks' | 'room' | 'through' | 'busySeconds'>[] {
    return [...this.#workers.values()];
  }

  /** The film of an id, until it is done. */
  filmOf(id: string): Reference | undefined {
    return this.#tasks.get(id)?.film;
  }

  /** From now on films are assigned to workers with this graph. */
  use(graph: string): void {
    this.#graph = graph;
    this.#plan();
  }

  process(film: Reference, signal: AbortSignal): Promise<Processed | null> {
    return new Promise((resolve, reject) => {
      this.#films += 1;
      const id = this.#films.toString(16);
      const task: Task = {
        id,
        film,
        signal,
        resolve,
        reject,
        attempt: 0,
        deaths: 0,
        unseen: 0,
        unseenBy: undefined,
        suspect: undefined,
        worker: undefined,
        seq: 0,
        sentAt: 0,
        hasArrived: false,
      };
      this.#tasks.set(id, task);
      this.#waiting.add(task);
      if (!this.#signals.has(signal)) {
        this.#signals.add(signal);
        signal.addEventListener('abort', () => {
          for (const each of this.#tasks.values()) if (each.signal === signal) this.#forget(each);
        });
      }
      this.#plan();
    });
  }

  /** A worker reports its films. */
  beat({ worker: id, graph, seq, holding, ...said }: Omit<Beat, 'stages'>): void {
    const { room, name, through, busySeconds } = said;
    const now = { graph, room, name, through, busySeconds, heardAt: this.#now() };
    let worker = this.#workers.get(id);
    if (worker === undefined) {
      worker = { id, tasks: new Set(), seq, isAlone: false, ...now };
      this.#workers.set(id, worker);
      this.#clear(id);
    }
    Object.assign(worker, now);
    const held = new Map(holding);
    for (const task of worker.tasks) {
      const isHeld = held.get(task.id) === task.attempt;
      // The message, or its confirmation, was lost.
      const isLost = task.seq <= seq || this.#now() - task.sentAt > this.options.leaseMs;
      task.hasArrived ||= isHeld;
      if (!isHeld && isLost) this.#takeBack(task);
    }
    this.#plan();
  }

  /** A worker has finished a film. `release`: {@link Processed.release}, also called if the result is dropped. */
  result(worker: string, graph: string, { id, attempt, outcome }: Result, release?: () => void): void {
    const task = this.#tasks.get(id);
    const isLate = task?.worker?.id !== worker || task.attempt !== attempt || graph !== this.#graph;
    if (isLate || outcome.kind !== 'made') release?.();
    this.#plan();
    if (isLate) return;
    if (outcome.kind === 'unseen') {
      task.unseen += 1;
      task.unseenBy = worker;
      this.#takeBack(task);
      if (task.unseen < this.options.attempts) return;
      this.#forget(task);
      if (outcome.reason === undefined) task.resolve(null);
      else task.reject(new RxrayError('FRAME_UNREADABLE', outcome.reason));
      return;
    }
    this.#forget(task);
    const { sha256 } = outcome;
    this.#results.push(() => {
      if (outcome.kind === 'made') task.resolve({ ...outcome, release });
      else if (sha256 === undefined) task.reject(fromPlainError(outcome.error));
      else task.resolve({ sha256, error: fromPlainError(outcome.error) });
    });
  }

  /** A worker returns films because it ends: the films are not suspected. */
  handBack(worker: string, ids: readonly string[]): void {
    for (const id of ids) {
      const task = this.#tasks.get(id);
      if (task?.worker?.id === worker) this.#takeBack(task);
    }
    this.#plan();
  }

  /** A worker has ended. */
  bye(id: string): void {
    const worker = this.#workers.get(id);
    this.#workers.delete(id);
    for (const task of worker?.tasks ?? []) this.#takeBack(task);
    this.#plan();
  }

  /** Ends expired leases; call it several times per lease. */
  tick(): void {
    if (!this.#isConnected) return;
    const { leaseMs, log } = this.options;
    const silent = [...this.#workers.values()].filter(({ heardAt }) => this.#now() - heardAt > leaseMs);
    const isNetwork = silent.length > 1 && silent.length === this.#workers.size;
    for (const worker of silent) {
      this.#workers.delete(worker.id);
      log.warn(
        { worker: worker.id, films: worker.tasks.size },
        'a worker has stopped responding: its films go to other workers',
      );
      for (const task of worker.tasks) {
        if (isNetwork) this.#takeBack(task);
        else this.#suspect(task, worker);
      }
    }
    if (silent.length > 0) this.#plan();
  }

  /** The head has lost or regained its connection: without one, no lease expires. */
  connected(isConnected: boolean): void {
    this.#isConnected = isConnected;
    if (isConnected) for (const worker of this.#workers.values()) worker.heardAt = this.#now();
  }

  /** The worker stopped responding while it had the film. */
  #suspect(task: Task, worker: Worker): void {
    // It may have ended before the film arrived: a worker says so before it begins a film that it has alone.
    if (worker.isAlone && task.hasArrived) task.deaths += 1;
    this.#takeBack(task);
    if (task.deaths >= this.options.attempts) {
      this.#forget(task);
      const message = `${String(task.deaths)} workers ended while this film was the only one they had`;
      task.reject(new RxrayError('FRAME_CRASH', message));
      return;
    }
    task.suspect = worker.id;
    this.#waiting.delete(task);
    this.#suspects.add(task);
  }

  /** A worker responds again: its films have not crashed it. */
  #clear(worker: string): void {
    for (const task of this.#suspects) {
      if (task.suspect !== worker) continue;
      if (task.deaths > 0) task.deaths -= 1;
      else this.#release(task);
    }
  }

  #release(task: Task): void {
    task.suspect = undefined;
    this.#suspects.delete(task);
    this.#waiting.add(task);
  }

  /** The film is no longer assigned. */
  #takeBack(task: Task): void {
    if (task.worker === undefined) return;
    task.worker.tasks.delete(task);
    if (task.worker.isAlone) task.worker.isAlone = false;
    task.worker = undefined;
    if (task.suspect === undefined) this.#waiting.add(task);
    else this.#suspects.add(task);
  }

  #forget(task: Task): void {
    this.#takeBack(task);
    this.#waiting.delete(task);
    this.#suspects.delete(task);
    this.#tasks.delete(task.id);
  }

  /** Assigns films and hands results on, after `groupMs`. */
  #plan(): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    const flush = (): void => {
      this.#isPlanned = false;
      this.options.onGroup?.();
      for (const handOn of this.#results.splice(0)) handOn();
      this.#handOver();
    };
    const { groupMs } = this.options;
    if (groupMs === undefined) setImmediate(flush);
    else setTimeout(flush, groupMs);
  }

  #handOver(): void {
    const able = [...this.#workers.values()].filter(
      ({ graph, room, isAlone }) => graph === this.#graph && room > 0 && !isAlone,
    );
    // Workers with the fewest films are reserved for films that must be processed alone: at most half of them, or the
    // only one.
    able.sort((a, b) => a.tasks.size - b.tasks.size);
    const reserved = Math.min(this.#suspects.size, Math.ceil(able.length / 2));
    const suspects = this.#suspects.values();
    for (const worker of able.slice(0, reserved)) {
      if (worker.tasks.size > 0) continue;
      const { value: task } = suspects.next();
      if (task === undefined) break;
      worker.isAlone = true;
      this.#send(worker, [task]);
    }
    for (const worker of able.slice(reserved)) {
      const tasks: Task[] = [];
      // Enough films for a batch, without taking those that idle workers could start.
      const share = Math.max(16, Math.ceil(this.#waiting.size / able.length));
      const most = Math.min(worker.room - worker.tasks.size, share);
      for (const task of this.#waiting) {
        if (tasks.length >= most) break;
        // Another worker may find it.
        if (task.unseenBy !== worker.id || able.length === 1) tasks.push(task);
      }
      this.#send(worker, tasks);
    }
  }

  #send(worker: Worker, tasks: readonly Task[]): void {
    if (tasks.length === 0) return;
    worker.seq += 1;
    for (const task of tasks) {
      this.#waiting.delete(task);
      this.#suspects.delete(task);
      task.attempt += 1;
      Object.assign(task, { worker, seq: worker.seq, sentAt: this.#now(), hasArrived: false });
      worker.tasks.add(task);
    }
    const films = tasks.map(({ id, film, attempt }): Assignment => ({ ...film, id, attempt }));
    this.options.assign(worker.id, worker.seq, films, worker.isAlone);
  }
}
