import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { serialize } from 'node:v8';
import type { Container } from 'inversify';
import type { Subscription } from 'rxjs';
import type { Cluster } from '../core/config/pipeline.js';
import { LOG } from '../core/container.js';
import { messageOf } from '../core/errors.js';
import { withoutPixels, type Frame } from '../core/frame.js';
import { Monitor } from '../core/monitor/monitor.js';
import type { Log } from '../core/plugin.js';
import type { PluginRegistry } from '../core/plugins/registry.js';
import { pipelineOf } from './graph.js';
import { BEATS } from './head.js';
import { openBus, type Bus } from './nats.js';
import type { StageCounts } from './worker-meters.js';
import { sendResults, type HeadAddress } from './film-server.js';
import { subjects, type Beacon, type Result, type ToHead, type ToWorker } from './protocol.js';
import { GraphRunner } from './graph-runner.js';

export interface WorkOptions {
  /** Only for the pipeline of this name. Default: the first head that is found. */
  readonly pipeline?: string | undefined;
  /**
   * How long films in progress may take to finish on {@link ClusterWorker.stop}; the others are returned to the head.
   */
  readonly shutdownTimeoutMs: number;
  readonly registry: PluginRegistry;
}

/** The machine and the process, for people. */
const NAME = `${hostname()}:${String(process.pid)}`;
/** Maximum size of a message without its results. */
const ENVELOPE = 1024;
/** Results that come within this time share a message: for the head, each message is expensive, whatever its size. */
const TOGETHER_MS = 25;

/** Minimum time between two frames of a tap: faster ones are dropped. */
const TAP_MS = 50;

/** A film that the worker has. */
interface Holding {
  attempt: number;
  /** From its end until the head confirms it. */
  result?: Result;
  /** Of the result in a message; undefined: it goes to the head's server. */
  bytes?: number | undefined;
  /** On the way to the head's server, and how often that failed. */
  isSending?: boolean;
  failures?: number;
}

/** A result that could not be sent to the head's server so often is given up: another worker may reach it. */
const SENDS = 4;

/**
 * The worker's side: runs the stages of the head's graph on assigned films, and stores nothing. It serves one journal,
 * and the last started of its heads.
 */
export class ClusterWorker {
  readonly id = randomUUID();
  readonly #log: Log;
  readonly #holding = new Map<string, Holding>();
  /** Of all graphs that it runs, one after the other. */
  readonly #monitor = new Monitor();
  /** Stages whose frames the head asks for. */
  readonly #taps = new Map<string, Subscription>();
  #tapTimer: NodeJS.Timeout | undefined;
  #tappedAt = 0;
  #bus: Bus | undefined;
  #head: Beacon | undefined;
  #beats: NodeJS.Timeout | undefined;
  #beatMs = 0;
  #runner: GraphRunner | undefined;
  /** The hash of the runner's graph; null without one. */
  #graph: string | null = null;
  /** While a graph is loaded. */
  #loading: Promise<void> | undefined;
  /** Where the head takes results that were rendered for sinks. */
  #results: HeadAddress | undefined;
  /** Films whose results have not been sent yet. */
  readonly #unsent = new Set<Holding>();
  /** A graph that failed to load: it is not tried again. */
  #refused: string | undefined;
  #seq = 0;
  /** Number of finished films. */
  #through = 0;
  /** The total time with films in progress, up to `#sinceMs` if there are any now. */
  #busyMs = 0;
  #atWork = 0;
  #sinceMs = 0;
  /** Finished films and busy seconds at an earlier moment, and the films per second up to it. */
  #pace = { through: 0, seconds: 0, filmsPerSecond: 0 };
  #stopping = false;
  readonly #abort = new AbortController();
  /** The temporary folder of its graphs, made with the first one. */
  #stateDir: string | undefined;
  #idle: () => void = () => undefined;
  #ended: () => void = () => undefined;
  /** Resolves when it has stopped. */
  readonly finished = new Promise<void>((resolve) => (this.#ended = resolve));

  constructor(
    private readonly host: Container,
    private readonly options: WorkOptions,
  ) {
    this.#log = host.get(LOG);
  }

  async start(nats: Cluster['with']): Promise<void> {
    const { signal } = this.#abort;
    const name = `rxray work ${this.id}`;
    this.#bus = await openBus(nats, { name, log: this.#log, signal }).catch((error: unknown) => {
      // It was stopped while it was waiting for the servers.
      if (this.#stopping) return undefined;
      throw error;
    });
    if (this.#stopping) await this.#bus?.close();
    else this.#bus?.subscribe(subjects.beacons, (beacon) => this.#heardHead(beacon as Beacon));
  }

  /** Takes no more films, finishes those in progress, and returns those that take too long. */
  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#abort.abort();
    this.#beat();
    void this.#end().finally(this.#ended);
  }

  async #end(): Promise<void> {
    const idle = new Promise<void>((resolve) => (this.#idle = resolve));
    if (this.#holding.size > 0) {
      const late = new Promise<void>((resolve) =>
        setTimeout(resolve, this.options.shutdownTimeoutMs).unref(),
      );
      await Promise.race([idle, late]);
    }
    clearInterval(this.#beats);
    this.#tap([]);
    const ids = [...this.#holding.keys()];
    if (ids.length > 0) this.#say({ kind: 'handBack', ...this.#self, ids });
    this.#say({ kind: 'bye', ...this.#self });
    await this.#bus?.close();
    await this.#loading;
    await this.#runner?.dispose();
    if (this.#stateDir !== undefined) await rm(this.#stateDir, { recursive: true, force: true });
  }

  get #self(): { worker: string; epoch: number } {
    return { worker: this.id, epoch: this.#head?.epoch ?? 0 };
  }

  #say(message: ToHead): void {
    if (this.#head !== undefined) this.#bus?.publish(subjects.head(this.#head.journal), message);
  }

  #heardHead(beacon: Beacon): void {
    const { pipeline } = this.options;
    if (pipeline !== undefined && beacon.name !== pipeline) return;
    const before = this.#head;
    if (before === undefined) {
      this.#log.info({ journal: beacon.journal, pipeline: beacon.name }, 'found a head');
      this.#bus?.subscribe(subjects.worker(beacon.journal, this.id), (message) =>
        this.#heard(message as ToWorker),
      );
    } else if (beacon.journal !== before.journal || beacon.epoch < before.epoch) return;
    this.#head = beacon;
    // This head assigns the films of an earlier head again.
    if (before !== undefined && before.epoch !== beacon.epoch) {
      this.#holding.clear();
      this.#unsent.clear();
    }
    if (before?.leaseMs !== beacon.leaseMs) this.#beatEvery(beacon.leaseMs / BEATS);
    this.#followGraph();
    if (before?.epoch !== beacon.epoch) this.#beat();
  }

  #beatEvery(ms: number): void {
    clearInterval(this.#beats);
    this.#beatMs = ms;
    this.#beats = setInterval(() => this.#beat(), this.#beatMs);
  }

  #busySeconds(): number {
    return (this.#busyMs + (this.#atWork === 0 ? 0 : performance.now() - this.#sinceMs)) / 1000;
  }

  /** While it works, lately; 0 before a second of work with this graph. */
  #filmsPerSecond(): number {
    const seconds = this.#busySeconds();
    const [films, time] = [this.#through - this.#pace.through, seconds - this.#pace.seconds];
    if (time >= 1) this.#pace = { through: this.#through, seconds, filmsPerSecond: films / time };
    return this.#pace.filmsPerSecond;
  }

  /** Its complete state, and results that the head has not confirmed. */
  #beat(): void {
    this.#sendResults([...this.#holding.values()]);
    this.#say({
      kind: 'beat',
      ...this.#self,
      graph: this.#graph,
      seq: this.#seq,
      holding: [...this.#holding].map(([id, { attempt }]) => [id, attempt] as const),
      ...{ name: NAME, through: this.#through, busySeconds: this.#busySeconds() },
      stages: this.#stages(),
      room:
        this.#stopping || this.#graph !== this.#head?.graph
          ? 0
          : (this.#runner?.room(this.#filmsPerSecond()) ?? 0),
    });
    this.#followGraph();
  }

  #stages(): StageCounts {
    const stages = [...this.#monitor.meters.values()].filter(({ kind }) => kind === 'stage');
    return Object.fromEntries(stages.map(({ id, counts }) => [id, counts]));
  }

  /** Sends frames that come out of these stages until the head has not asked for them for some time. */
  #tap(wanted: readonly string[]): void {
    clearTimeout(this.#tapTimer);
    for (const [stage, subscription] of this.#taps) {
      if (wanted.includes(stage)) continue;
      subscription.unsubscribe();
      this.#taps.delete(stage);
    }
    if (wanted.length === 0) return;
    for (const stage of wanted) {
      const meter = this.#monitor.meters.get(stage);
      if (meter === undefined || this.#taps.has(stage)) continue;
      this.#taps.set(
        stage,
        meter.passing$.subscribe((frame) => this.#show(stage, frame)),
      );
    }
    this.#tapTimer = setTimeout(() => this.#tap([]), 3 * this.#beatMs).unref();
  }

  #show(stage: string, { encoded: _file, ...frame }: Frame): void {
    const now = performance.now();
    if (now - this.#tappedAt < TAP_MS) return;
    this.#tappedAt = now;
    for (const shown of [frame, withoutPixels(frame)]) {
      if (serialize(shown).byteLength > this.#mostBytes) continue;
      this.#say({ kind: 'tapped', ...this.#self, stage, frame: shown });
      return;
    }
  }

  /** Requests the head's graph if it has another one, after the films of the present one have finished. */
  #followGraph(): void {
    const wanted = this.#head?.graph;
    if (wanted === this.#graph || wanted === this.#refused || this.#loading !== undefined || this.#stopping)
      return;
    if (this.#holding.size === 0) this.#say({ kind: 'graph?', ...this.#self });
  }

  #heard(message: ToWorker): void {
    if (message.epoch !== this.#head?.epoch) return;
    switch (message.kind) {
      case 'graph':
        if (this.#stopping || this.#loading !== undefined || message.graph.hash === this.#graph) return;
        this.#loading = this.#load(message);
        break;
      case 'assign':
        this.#seq = Math.max(this.#seq, message.seq);
        if (this.#stopping || message.graph !== this.#graph || this.#runner === undefined) return;
        for (const film of message.films) this.#begin(film, this.#runner, message.graph, message.isAlone);
        break;
      case 'tap':
        this.#tap(message.stages);
        break;
      case 'confirm':
        for (const [id, attempt] of message.results) {
          const holding = this.#holding.get(id);
          if (holding?.attempt === attempt && holding.result !== undefined) this.#holding.delete(id);
        }
        this.#confirmed();
        break;
    }
  }

  async #load({ graph, films, results }: Extract<ToWorker, { kind: 'graph' }>): Promise<void> {
    const before = this.#runner;
    this.#runner = undefined;
    this.#graph = null;
    this.#results = results;
    try {
      await before?.dispose();
      this.#stateDir ??= await mkdtemp(join(tmpdir(), 'rxray-work-'));
      const pipeline = await pipelineOf(graph, this.options.registry, this.#stateDir);
      this.#runner = await GraphRunner.open(pipeline, this.host, this.#monitor, films);
      this.#graph = graph.hash;
      this.#pace = { through: this.#through, seconds: this.#busySeconds(), filmsPerSecond: 0 };
      this.#log.info({ graph: pipeline.hash }, 'the graph is ready');
    } catch (error) {
      this.#refused = graph.hash;
      this.#log.error({ graph: graph.pipeline.hash }, `the graph cannot be run here: ${messageOf(error)}`);
    } finally {
      this.#loading = undefined;
    }
    this.#beat();
  }

  #begin(
    film: Parameters<GraphRunner['process']>[0],
    runner: GraphRunner,
    graph: string,
    isAlone: boolean,
  ): void {
    const { id, attempt } = film;
    const known = this.#holding.get(id);
    if (known !== undefined) {
      // The head has withdrawn the film, and assigns it again.
      known.attempt = Math.max(known.attempt, attempt);
      if (known.result !== undefined) known.result = { ...known.result, attempt: known.attempt };
      return;
    }
    const holding: Holding = { attempt };
    this.#holding.set(id, holding);
    if (this.#atWork === 0) this.#sinceMs = performance.now();
    this.#atWork += 1;
    const arrived = isAlone ? this.#tellArrival() : Promise.resolve();
    const processed = arrived.then(() => runner.process(film));
    void processed.then((outcome) => {
      this.#through += 1;
      this.#busyMs = 1000 * this.#busySeconds();
      this.#sinceMs = performance.now();
      this.#atWork -= 1;
      if (this.#holding.get(id) !== holding || this.#graph !== graph) return;
      Object.assign(holding, this.#sendable({ id, attempt: holding.attempt, outcome }));
      this.#unsent.add(holding);
      if (this.#unsent.size > 1) return;
      setTimeout(() => {
        this.#sendResults([...this.#unsent]);
      }, TOGETHER_MS);
    });
  }

  /** Resolves when the NATS server has been told what is here, or cannot be told. */
  async #tellArrival(): Promise<void> {
    this.#beat();
    await this.#bus?.flush().catch(() => undefined);
  }

  /** The largest message of results, in bytes. */
  get #mostBytes(): number {
    return (this.#bus?.maxBytes ?? 0) - ENVELOPE;
  }

  #confirmed(): void {
    if (this.#holding.size === 0) this.#idle();
  }

  /** A film whose results do not fit into a message fails. */
  #sendable(result: Result): Required<Pick<Holding, 'result' | 'bytes'>> {
    if (isRendered(result)) return { result, bytes: undefined };
    const bytes = serialize(result).byteLength;
    if (bytes <= this.#mostBytes) return { result, bytes };
    const message = `metadata and results have ${String(bytes)} bytes, the NATS servers accept ${String(this.#mostBytes)}`;
    const failed: Result = {
      ...result,
      outcome: { kind: 'failed', error: { code: 'FRAME_STAGE', message } },
    };
    return { result: failed, bytes: serialize(failed).byteLength };
  }

  /** Sends the results of those films that have one, in as few messages as they fit into. */
  #sendResults(holdings: readonly Holding[]): void {
    const graph = this.#graph;
    let [results, size]: [Result[], number] = [[], 0];
    const send = (): void => {
      if (results.length > 0 && graph !== null) this.#say({ kind: 'results', ...this.#self, graph, results });
      [results, size] = [[], 0];
    };
    for (const holding of holdings) {
      this.#unsent.delete(holding);
      const { result, bytes } = holding;
      if (result === undefined) continue;
      if (bytes === undefined) {
        void this.#upload(holding, result);
        continue;
      }
      if (size + bytes > this.#mostBytes) send();
      results.push(result);
      size += bytes;
    }
    send();
  }

  /** Sends a result to the head's server. If the head does not take it, the next beat sends it again. */
  async #upload(holding: Holding, result: Result): Promise<void> {
    const { id, attempt } = result;
    if (holding.isSending === true || this.#graph === null || this.#results === undefined) return;
    holding.isSending = true;
    try {
      const message = { kind: 'results', ...this.#self, graph: this.#graph, results: [result] } as const;
      const isConfirmed = await sendResults(this.#results, message);
      if (!isConfirmed || this.#holding.get(id) !== holding || holding.attempt !== attempt) return;
      this.#holding.delete(id);
      this.#confirmed();
    } catch (error) {
      const reason = `the results cannot be sent to the head: ${messageOf(error)}`;
      this.#log.warn({ film: id }, reason);
      holding.failures = (holding.failures ?? 0) + 1;
      if (holding.failures < SENDS) return;
      const outcome = { kind: 'unseen', reason } as const;
      Object.assign(holding, this.#sendable({ id, attempt: holding.attempt, outcome }));
    } finally {
      holding.isSending = false;
    }
  }
}

function isRendered({ outcome }: Result): boolean {
  return (
    outcome.kind === 'made' &&
    Object.values(outcome.findings).some((found) => found?.rendered instanceof Uint8Array)
  );
}
