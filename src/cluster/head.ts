import { randomBytes, randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ReplaySubject } from 'rxjs';
import { needsPixels, renderingOf, type Cluster, type Pipeline } from '../core/config/pipeline.js';
import { messageOf, RxrayError } from '../core/errors.js';
import type { Remote } from '../core/graph/remote.js';
import type { Journal } from '../core/journal/journal.js';
import type { Monitor } from '../core/monitor/monitor.js';
import type { RemoteStatus } from '../core/monitor/remote-status.js';
import type { Log } from '../core/plugin.js';
import { Dispatcher } from './dispatcher.js';
import { Credit } from './credit.js';
import { FilmServer, type HeadAddress } from './film-server.js';
import { describeGraph } from './graph.js';
import { openBus, type Bus } from './nats.js';
import { resolved } from './nats-access.js';
import { subjects, type Beacon, type Graph, type Results, type ToHead, type ToWorker } from './protocol.js';
import { WorkerMeters } from './worker-meters.js';

/** The journal's keys for its id and for the number of starts of heads. */
const NOTE = 'cluster';

/** A group of films shares messages, transactions and syncs: they cost more than the films. */
const GROUP_MS = 50;

/** Number of beacons, heartbeats and lease checks per lease. */
export const BEATS = 5;

/**
 * How many workers would finish a backlog in `drainSeconds`, if each does `rate` films a second. One while the
 * rate is not known; none without a backlog.
 */
export function desiredWorkers(backlog: number, rate: number | null, drainSeconds: number): number {
  if (backlog === 0) return 0;
  return rate === null ? 1 : Math.ceil(backlog / (rate * drainSeconds));
}

function rateOf(films: number, seconds: number): number | null {
  return films === 0 || seconds === 0 ? null : films / seconds;
}

/** Refuses a pipeline that a head cannot run, or not without a restart: `running` is its present one. Throws CONFIG_REFUSED. */
export function checkHead({ sources, stages, sinks, cluster }: Pipeline, running = cluster): Cluster {
  if (cluster === undefined) {
    throw new RxrayError('CONFIG_REFUSED', 'a head needs `cluster:` in the pipeline file');
  }
  if (!isDeepStrictEqual(cluster, running)) {
    throw new RxrayError('CONFIG_REFUSED', '`cluster:` has changed: restart the head');
  }
  for (const sink of sinks.filter(needsPixels)) {
    const needs = `the sink \`${sink.id}\` needs pixels`;
    if (renderingOf(sink) === undefined) {
      const message = `${needs}, which workers do not send to the head, and its plugin has no \`render\`: remove it, or use \`rxray run\``;
      throw new RxrayError('CONFIG_REFUSED', message);
    }
    if (cluster.serve === undefined) {
      const message = `${needs}: workers send pictures to the head at \`cluster.serve\`, which is missing`;
      throw new RxrayError('CONFIG_REFUSED', message);
    }
  }
  if (cluster.films === 'object') {
    const local = sources.find(({ plugin }) => plugin.fetcher === undefined);
    const several = stages.find(
      ({ plugin, settings }) => plugin.imageCounter?.(settings as never) !== undefined,
    );
    const message =
      local !== undefined
        ? `workers cannot fetch the films of the source \`${local.id}\``
        : several &&
          `the stage \`${several.id}\` takes several films from a file, which the head would have to read`;
    if (message !== undefined) throw new RxrayError('CONFIG_REFUSED', `\`films: object\`: ${message}`);
  }
  return cluster;
}

/** What the journal keeps of its heads. */
interface Identity {
  readonly id: string;
  readonly epoch: number;
  /** For {@link FilmServer}: workers that have it go on with the next head. */
  readonly token: string;
}

/** Connects to the workers of a journal; paths are relative to `baseDir`. */
export async function openHead(
  cluster: Cluster,
  journal: Journal,
  log: Log,
  baseDir = '.',
): Promise<ClusterHead> {
  const noted = JSON.parse((await journal.noted(NOTE)) ?? '{}') as Partial<Identity>;
  const identity: Identity = {
    id: noted.id ?? randomUUID(),
    epoch: (noted.epoch ?? 0) + 1,
    token: noted.token ?? randomBytes(32).toString('hex'),
  };
  await journal.note(NOTE, JSON.stringify(identity));
  const head = new ClusterHead(cluster, identity, log);
  try {
    await head.open(baseDir);
  } catch (error) {
    await head.close();
    throw error;
  }
  return head;
}

/**
 * The head's side: assigns films to workers and receives their results. It stores nothing: the journal records what is
 * settled. If the head ends, the next head assigns the unfinished films again, with a higher epoch.
 */
export class ClusterHead implements Remote {
  readonly frames: number;
  readonly fetches: boolean;
  readonly #fatal = new ReplaySubject<never>(1);
  readonly fatal$ = this.#fatal.asObservable();
  readonly #dispatcher: Dispatcher;
  readonly #id = randomUUID();
  #bus: Bus | undefined;
  /** Absent while it is being described. */
  #graph: Graph | undefined;
  #wanted: Pipeline | undefined;
  #timer: NodeJS.Timeout | undefined;
  #server: FilmServer | undefined;
  #address: HeadAddress | undefined;
  /** Memory for what workers have rendered, of the films of the present graph. */
  #memory = new Credit(Infinity);
  #monitor: Monitor | undefined;
  readonly #meters = new WorkerMeters(() => this.#monitor?.meters ?? new Map());
  /** Results that have arrived since films were last assigned, by worker. */
  readonly #toConfirm = new Map<string, (readonly [id: string, attempt: number])[]>();
  /** The worker that sends frames for `tap`. */
  #tapped: string | undefined;
  /** Films that workers have finished since the start. */
  #through = 0;
  readonly #startedAt = performance.now();

  constructor(
    private readonly cluster: Cluster,
    private readonly identity: Identity,
    private readonly log: Log,
  ) {
    const { leaseMs, attempts, frames, films } = cluster;
    const { epoch } = identity;
    this.frames = frames;
    this.fetches = films === 'object';
    this.#dispatcher = new Dispatcher({
      leaseMs,
      attempts,
      log,
      groupMs: GROUP_MS,
      onGroup: () => {
        for (const [worker, results] of this.#toConfirm)
          this.#say(worker, { kind: 'confirm', epoch, results });
        this.#toConfirm.clear();
      },
      assign: (worker, seq, assigned, isAlone) => {
        const graph = this.#graph?.hash ?? '';
        this.#say(worker, { kind: 'assign', epoch, graph, seq, films: assigned, isAlone });
      },
    });
  }

  private get journal(): string {
    return this.identity.id;
  }

  private get epoch(): number {
    return this.identity.epoch;
  }

  /** Throws CONFIG_CREATE. */
  async open(baseDir: string): Promise<void> {
    const { films, serve } = this.cluster;
    if (serve !== undefined) {
      const [, host = '', port] = /^\[?(.+?)\]?:(\d+)$/.exec(serve.listen) ?? [];
      const { token } = this.identity;
      this.#server = await FilmServer.open({
        ...{ host, port: Number(port), token },
        cert: serve.cert && resolve(baseDir, serve.cert),
        key: serve.key && resolve(baseDir, serve.key),
        filmOf: (id) => (films === 'head' ? this.#dispatcher.filmOf(id)?.candidate : undefined),
        reserve: (bytes) => this.#memory.take(bytes),
        take: (message, release) => this.#take(message as Results, release),
      });
      this.#address = { url: serve.url, token };
    }
    this.#bus = await openBus(resolved(this.cluster.with, baseDir), {
      name: `rxray head ${this.journal}`,
      log: this.log,
      onConnected: (isConnected) => {
        this.#dispatcher.connected(isConnected);
      },
    });
    this.#bus.subscribe(subjects.head(this.journal), (message) => this.#heard(message as ToHead));
    this.#bus.subscribe(subjects.beacon(this.journal), (beacon) => this.#heardHead(beacon as Beacon));
    this.#timer = setInterval(() => {
      this.#beacon();
      this.#dispatcher.tick();
      this.#meters.keep(new Set(this.#dispatcher.workers.map(({ id }) => id)));
      this.#tap();
    }, this.cluster.leaseMs / BEATS);
  }

  /** Numbers of workers, waiting, assigned and finished films, and the duration in seconds. */
  get load(): Dispatcher['load'] & { through: number; seconds: number } {
    const seconds = (performance.now() - this.#startedAt) / 1000;
    return { ...this.#dispatcher.load, through: this.#through, seconds };
  }

  status(waiting: number): RemoteStatus {
    const { workers, load } = this.#dispatcher;
    const backlog = waiting + load.waiting + load.working;
    const sum = (pick: (worker: (typeof workers)[number]) => number): number =>
      workers.reduce((total, worker) => total + pick(worker), 0);
    const rate = rateOf(
      sum(({ through }) => through),
      sum(({ busySeconds }) => busySeconds),
    );
    return {
      workers: workers
        .toSorted((a, b) => (a.name < b.name ? -1 : 1))
        .map(({ name, tasks, room, through, busySeconds }) => ({
          ...{ name, films: tasks.size, room, through },
          filmsPerSecond: rateOf(through, busySeconds),
        })),
      backlog,
      desired: desiredWorkers(backlog, rate, this.cluster.drainSeconds),
    };
  }

  use(pipeline: Pipeline, monitor: Monitor): void {
    this.#monitor = monitor;
    this.#memory = new Credit(pipeline.limits.bytes);
    // Until the hash is known, no worker has the new graph: none may process its films with the old one.
    this.#graph = undefined;
    this.#dispatcher.use('');
    this.#wanted = pipeline;
    void describeGraph(pipeline).then(
      (graph) => {
        if (this.#wanted !== pipeline) return;
        this.#graph = graph;
        this.#dispatcher.use(graph.hash);
        this.#beacon();
      },
      (error: unknown) => {
        this.#fatal.error(
          new RxrayError('RUN_STOPPED', `the graph's files cannot be read: ${messageOf(error)}`),
        );
      },
    );
  }

  process(...args: Parameters<Remote['process']>): ReturnType<Remote['process']> {
    return this.#dispatcher.process(...args);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#server?.close();
    await this.#bus?.close();
  }

  #beacon(): void {
    if (this.#graph === undefined) return;
    const { journal, epoch } = this;
    this.#bus?.publish(subjects.beacon(journal), {
      ...{ journal, epoch, head: this.#id, leaseMs: this.cluster.leaseMs },
      name: this.#graph.pipeline.name,
      graph: this.#graph.hash,
    });
  }

  /** Asks one worker for frames of the stages that are tapped. */
  #tap(): void {
    const meters = [...(this.#monitor?.meters.values() ?? [])];
    const stages = meters.filter(({ kind, watched }) => kind === 'stage' && watched).map(({ id }) => id);
    if (stages.length === 0) return;
    const { workers } = this.#dispatcher;
    const busy = workers.find(({ tasks }) => tasks.size > 0) ?? workers[0];
    if (!workers.some(({ id }) => id === this.#tapped)) this.#tapped = busy?.id;
    if (this.#tapped !== undefined) this.#say(this.#tapped, { kind: 'tap', epoch: this.epoch, stages });
  }

  #say(worker: string, message: ToWorker): void {
    this.#bus?.publish(subjects.worker(this.journal, worker), message);
  }

  #heard(message: ToHead): void {
    const { worker, epoch } = message;
    if (epoch !== this.epoch) return;
    switch (message.kind) {
      case 'beat':
        this.#dispatcher.beat(message);
        this.#meters.take(worker, message.stages);
        break;
      case 'graph?':
        if (this.#graph !== undefined) {
          const films = this.cluster.films === 'head' ? this.#address : undefined;
          this.#say(worker, { kind: 'graph', epoch, graph: this.#graph, films, results: this.#address });
        }
        break;
      case 'results':
        this.#take(message);
        this.#toConfirm.set(worker, [
          ...(this.#toConfirm.get(worker) ?? []),
          ...message.results.map(({ id, attempt }) => [id, attempt] as const),
        ]);
        break;
      case 'tapped':
        this.#monitor?.meters.get(message.stage)?.show(message.frame);
        break;
      case 'handBack':
        this.#dispatcher.handBack(worker, message.ids);
        break;
      case 'bye':
        this.#dispatcher.bye(worker);
        break;
    }
  }

  /** Results of a worker; false if they are for another head. */
  #take({ worker, epoch, graph, results }: Results, release?: () => void): boolean {
    if (epoch !== this.epoch) {
      release?.();
      return false;
    }
    this.#through += results.length;
    for (const result of results) this.#dispatcher.result(worker, graph, result, release);
    return true;
  }

  /**
   * Of two heads on one journal (its folder was copied, or moved while a head was disconnected), the later one
   * continues.
   */
  #heardHead({ epoch, head }: Beacon): void {
    if (head === this.#id || epoch < this.epoch || (epoch === this.epoch && head < this.#id)) return;
    const message = `another head runs this journal (its start number ${String(epoch)}, ours ${String(this.epoch)})`;
    this.#fatal.error(new RxrayError('STATE_LOCKED', message));
  }
}
