import { RxrayError } from '../core/errors.js';
import type { Findings, Reference } from '../core/graph/remote.js';
import type { Log } from '../core/plugin.js';
import { fromPlainError } from '../core/workers/protocol.js';
import type { Assignment, Beat, Result } from './protocol.js';

export interface DispatcherOptions {
  /** A worker that has been silent for longer loses its films. */
  readonly leaseMs: number;
  /** A film fails when so many workers have died while it was the only one they had, or did not see its file. */
  readonly attempts: number;
  /** Hands films to a worker. May be lost on the way. */
  readonly assign: (worker: string, seq: number, films: readonly Assignment[]) => void;
  readonly log: Log;
  /** Milliseconds on a clock that never goes back. */
  readonly now?: () => number;
}

/** A film that is not done. */
interface Task {
  readonly film: Reference;
  readonly signal: AbortSignal;
  readonly resolve: (findings: Findings) => void;
  readonly reject: (error: Error) => void;
  attempt: number;
  /** How many workers have died while it was the only film they had. */
  deaths: number;
  /** How many workers did not find its file. */
  unseen: number;
  /** The worker that fell silent while it had the film: until it is heard again, the film runs alone. */
  suspect: string | undefined;
  worker: Worker | undefined;
  /** Of the message that it was handed over in, and when. */
  seq: number;
  sentAt: number;
}

/** A worker that has been heard of within its lease. */
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
  /** It has one film that is suspected of ending workers, and gets no other. */
  isAlone: boolean;
}

/**
 * Which worker has which film, and until when. A film is with one worker at a time; each time that it is handed over it
 * has another attempt number, and what comes back for an earlier one is dropped.
 *
 * A worker that falls silent loses its films. One of them may have ended it, so each runs alone next, on a worker that has
 * no other; only a film that ends workers when it is alone fails. A worker that is heard again was not dead, and clears
 * its films. Nothing is suspected when all workers fall silent together: then it was the network.
 */
export class Dispatcher {
  readonly #now: () => number;
  /** Each ends the films of one graph. */
  readonly #signals = new WeakSet<AbortSignal>();
  readonly #tasks = new Map<string, Task>();
  readonly #workers = new Map<string, Worker>();
  #waiting = new Set<Task>();
  readonly #suspects = new Set<Task>();
  #graph = '';
  #isConnected = true;
  #isPlanned = false;

  constructor(private readonly options: DispatcherOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  /** Films that wait for a worker, films that workers have, and the workers. */
  get load(): { waiting: number; working: number; workers: number } {
    const waiting = this.#waiting.size + this.#suspects.size;
    return { waiting, working: this.#tasks.size - waiting, workers: this.#workers.size };
  }

  /** What the workers said last. */
  get workers(): readonly Pick<Worker, 'name' | 'tasks' | 'room' | 'through' | 'busySeconds'>[] {
    return [...this.#workers.values()];
  }

  /** From now on films are for workers that have this graph. */
  use(graph: string): void {
    this.#graph = graph;
    this.#plan();
  }

  process(film: Reference, signal: AbortSignal): Promise<Findings> {
    return new Promise((resolve, reject) => {
      const { id } = film.frame;
      const task: Task = {
        ...{
          film,
          signal,
          resolve,
          reject,
          attempt: 0,
          deaths: 0,
          unseen: 0,
          suspect: undefined,
          worker: undefined,
        },
        ...{ seq: 0, sentAt: 0 },
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

  /** A worker says what it has. */
  beat({ worker: id, graph, seq, holding, ...said }: Beat): void {
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
      const isHeld = held.get(task.film.frame.id) === task.attempt;
      // The message, or the answer to it, was lost.
      const isLost = task.seq <= seq || this.#now() - task.sentAt > this.options.leaseMs;
      if (!isHeld && isLost) this.#takeBack(task);
    }
    this.#plan();
  }

  /** A worker is done with a film. */
  result(worker: string, graph: string, { id, attempt, outcome }: Result): void {
    const task = this.#tasks.get(id);
    if (task?.worker?.id !== worker || task.attempt !== attempt || graph !== this.#graph) return;
    if (outcome.kind === 'unseen') {
      task.unseen += 1;
      this.#takeBack(task);
      if (task.unseen < this.options.attempts) {
        this.#plan();
        return;
      }
      this.#forget(task);
      const message = 'the workers do not find the file, or another one in its place';
      task.reject(new RxrayError('FRAME_UNREADABLE', message));
      return;
    }
    this.#forget(task);
    if (outcome.kind === 'made') task.resolve(outcome.findings);
    else task.reject(fromPlainError(outcome.error));
    this.#plan();
  }

  /** A worker gives films back: it ends, and they are not to blame. */
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

  /** To be called several times in a lease: ends those that are over. */
  tick(): void {
    if (!this.#isConnected) return;
    const { leaseMs, log } = this.options;
    const silent = [...this.#workers.values()].filter(({ heardAt }) => this.#now() - heardAt > leaseMs);
    const isNetwork = silent.length > 1 && silent.length === this.#workers.size;
    for (const worker of silent) {
      this.#workers.delete(worker.id);
      log.warn(
        { worker: worker.id, films: worker.tasks.size },
        'a worker has fallen silent: others get its films',
      );
      for (const task of worker.tasks) {
        if (isNetwork) this.#takeBack(task);
        else this.#suspect(task, worker);
      }
    }
    if (silent.length > 0) this.#plan();
  }

  /** The head has lost, or regained, its connection: while it hears nobody, no lease ends. */
  connected(isConnected: boolean): void {
    this.#isConnected = isConnected;
    if (isConnected) for (const worker of this.#workers.values()) worker.heardAt = this.#now();
  }

  /** The worker had the film when it fell silent. */
  #suspect(task: Task, worker: Worker): void {
    if (worker.isAlone) task.deaths += 1;
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

  /** A worker that was silent is heard again: its films have not ended it. */
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

  /** The film is with no worker any more. */
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
    this.#tasks.delete(task.film.frame.id);
  }

  /** Hands films over at the end of the turn. */
  #plan(): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    setImmediate(() => {
      this.#isPlanned = false;
      this.#handOver();
    });
  }

  #handOver(): void {
    const able = [...this.#workers.values()].filter(
      ({ graph, room, isAlone }) => graph === this.#graph && room > 0 && !isAlone,
    );
    // Workers with the fewest films are emptied for films that run alone; half of them at most, or the only one.
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
    const waiting = this.#waiting.values();
    for (const worker of able.slice(reserved)) {
      const tasks: Task[] = [];
      // Enough for a batch, and no worker takes what others could begin at once.
      const share = Math.max(16, Math.ceil(this.#waiting.size / able.length));
      while (tasks.length < Math.min(worker.room - worker.tasks.size, share)) {
        const { value: task } = waiting.next();
        if (task === undefined) break;
        tasks.push(task);
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
      Object.assign(task, { worker, seq: worker.seq, sentAt: this.#now() });
      worker.tasks.add(task);
    }
    const films = tasks.map(({ film, attempt }): Assignment => ({ ...film, attempt }));
    this.options.assign(worker.id, worker.seq, films);
  }
}
