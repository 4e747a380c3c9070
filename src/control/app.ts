import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { userInfo } from 'node:os';
import { Hono, type Context, type MiddlewareHandler } from 'hono';
import { setCookie } from 'hono/cookie';
import { streamSSE, type SSEStreamingApi } from 'hono/streaming';
import { serveStatic } from '@hono/node-server/serve-static';
import type { Registry } from 'prom-client';
import { z } from 'zod';
import { ERRORS, messageOf, RxrayError } from '../core/errors.js';
import { withoutImages, type Image, type Origin, type View } from '../core/frame.js';
import { isSecret } from '../core/http.js';
import type { Monitor } from '../core/monitor/monitor.js';
import { REVIEW_ANSWERS, Reviews, type Review } from '../core/reviews.js';
import {
  discardEntry,
  listEntries,
  presentIds,
  readEntry,
  requestReplay,
  type DeadLetterEntry,
} from '../core/dead-letter-entries.js';
import { NOTICE } from '../core/notice.js';
import { verdictOf } from '../core/verdict.js';
import type { Remade } from '../core/run/remake.js';
import type { PipelineRun } from '../core/run.js';
import type { Engine } from '../engine/index.js';
import { GradCam, hasGradCam } from './grad-cam.js';
import { cookieOf, COOKIE, guard, headers, type Entrance } from './guard.js';
import { historyOf, MAX_HISTORY_HOURS } from './history.js';
import { LiveGraph } from './live.js';
import { createRegistry } from './metrics.js';
import { calibrationInForce } from '../models/calibration-in-force.js';
import { driftOf, modelsOf } from './models.js';
import { Pictures, toPng, type Picture } from './pictures.js';
import { compareShadows } from './shadow.js';
import {
  patientOf,
  rowOf,
  SORTS,
  WORKLIST_ROWS,
  type Patient,
  type WorklistFilm,
  type Worklist,
} from './worklist.js';

/** The result of a reload: unless `taken`, the graph continues unchanged. */
export interface Reloaded {
  readonly taken: boolean;
  /** A message for the user, such as the problems of the file. */
  readonly message: string;
}

/** What the interface needs of the running process. */
export interface Controlled {
  readonly version: string;
  readonly monitor: Monitor;
  readonly worklist: Worklist;
  /** The running graph; undefined while it starts. */
  readonly run: () => PipelineRun | undefined;
  /** Whether it is stopping and takes no more films. */
  readonly stopping: () => boolean;
  /** Reloads the pipeline file. */
  readonly reload: () => Promise<Reloaded>;
  /** The engine, created on first use. */
  readonly engine: () => Promise<Engine>;
  /** The folder of the built page. */
  readonly pageDir: string;
}

/** Interval of live numbers and heartbeats. */
const BEAT_MS = 1000;
/** Frames that may wait for a slow client before a tap drops some. */
const TAP_QUEUE = 16;
/** Bytes of their pixels, for all clients together. */
const TAP_BYTES = 64 * 1024 ** 2;
/** Events that may wait for a slow reader before it is dropped. */
const EVENT_QUEUE = 1000;
/** Event streams that may be open, of all servers together. */
export const MAX_STREAMS = 50;
/** Maximum number of concurrent responses with pixels, and their time limit. */
const MAX_SENDING = 4;
const SEND_MS = 60_000;
const MAX_BODY = 64 * 1024;
/** Films that a shadow stage differs on, in one response. */
const SHOWN_DIFFERING = 100;

const querySchema = z.strictObject({
  sort: z.enum(SORTS).default('newest'),
  outcome: z.enum(['done', 'failed', 'skipped']).optional(),
  label: z.string().optional(),
  suspicious: z.boolean().optional(),
  reviewed: z.boolean().optional(),
  patient: z.string().max(64).optional(),
  text: z.string().max(200).optional(),
  offset: z.int().min(0).default(0),
  limit: z.int().min(1).max(WORKLIST_ROWS).default(100),
});

const decisionSchema = z.strictObject({
  answer: z.enum(REVIEW_ANSWERS),
  class: z.string().min(1).max(200).optional(),
  by: z.string().trim().max(100).optional(),
});

const chosenSchema = z.union([
  z.strictObject({ ids: z.array(z.string().min(1)).min(1) }),
  z.strictObject({ all: z.literal(true) }),
]);

/** The process's HTTP interface, for the socket and the page: see `docs/http-api.md`. */
export class ControlApp {
  readonly #live: LiveGraph;
  readonly #pictures: Pictures;
  /** Responses with pixels in progress, and the waiting ones. */
  #sending = 0;
  readonly #queue: (() => void)[] = [];
  #streaming = 0;
  /** Bytes of frames that are being sent to clients of taps. */
  #tapped = 0;
  #metrics: Registry | undefined;
  #cam: GradCam | undefined;
  #reviewed: Reviews | undefined;

  constructor(private readonly controlled: Controlled) {
    const { monitor, run } = controlled;
    this.#live = new LiveGraph(monitor);
    this.#pictures = new Pictures(
      (film) => {
        const graph = run();
        if (graph === undefined) throw new Refused(503, 'STARTING', 'the graph is not running yet');
        return this.#remake(graph, film);
      },
      // A new value for each reload, also if only a bundle or a plugin has changed, which the hash does not cover.
      () => monitor.pipeline,
    );
  }

  /** The routes for requests through this entrance. */
  routes(entrance: Entrance): Hono {
    const app = new Hono();
    app.use(headers, guard(entrance), shortBody);
    app.onError((error, c) => {
      if (error instanceof Refused) return c.json(problem(error.code, error.message), error.status);
      if (error instanceof SyntaxError || error instanceof z.ZodError) {
        return c.json(problem('BODY', messageOf(error)), 400);
      }
      if (error instanceof RxrayError) {
        return c.json(problem(error.code, error.message), ERRORS[error.code].status);
      }
      return c.json(problem('FAILED', messageOf(error)), 500);
    });
    app.notFound((c) => c.json(problem('NOT_FOUND', 'there is no such address'), 404));
    app.use('/api/*', async (c, next) => {
      await next();
      c.header('cache-control', c.res.headers.get('cache-control') ?? 'no-store');
    });

    this.#health(app);
    this.#session(app, entrance);
    this.#graph(app);
    this.#films(app);
    this.#gradCam(app);
    this.#streams(app);
    this.#failures(app);
    this.#models(app);
    const { pageDir } = this.controlled;
    // Absent if the program runs from its sources and the page has not been built.
    if (existsSync(pageDir)) app.use('/*', serveStatic({ root: pageDir }));
    return app;
  }

  async close(): Promise<void> {
    this.#live.close();
    this.#pictures.close();
    await this.#cam?.close();
  }

  #health(app: Hono): void {
    const { monitor, version } = this.controlled;
    app.get('/healthz', (c) => c.json({ status: 'ok' }));
    app.get('/readyz', (c) => {
      const state = this.#state();
      if (state !== 'running') return c.json({ status: state }, 503);
      const { troubles, isStalled } = monitor;
      if (troubles.length === 0) return c.json({ status: state });
      // Messages are shown only to clients with a token.
      const named = troubles.map(({ entry, kind, since }) => ({ entry, kind, since }));
      return isStalled
        ? c.json({ status: 'stalled', troubles: named }, 503)
        : c.json({ status: 'degraded', troubles: named });
    });
    app.get('/metrics', async (c) => {
      this.#metrics ??= createRegistry(monitor, version);
      return c.body(await this.#metrics.metrics(), 200, { 'content-type': this.#metrics.contentType });
    });
  }

  #session(app: Hono, { token }: Entrance): void {
    app.get('/api/session', (c) => c.json({ tokenNeeded: token !== undefined }));
    app.post('/api/session', async (c) => {
      const { token: given } = z.strictObject({ token: z.string() }).parse(await c.req.json());
      if (token === undefined || !isSecret(given, token))
        throw new Refused(401, 'TOKEN', 'the token is wrong');
      setCookie(c, COOKIE, cookieOf(token), { httpOnly: true, sameSite: 'Strict', path: '/' });
      return c.json({ tokenNeeded: false });
    });
  }

  #graph(app: Hono): void {
    app.get('/api/status', (c) => c.json(this.#status()));
    app.post('/api/reload', async (c) => {
      const { taken, message } = await this.controlled.reload();
      if (!taken) throw new Refused(409, 'RELOAD', message);
      return c.json({ message, ...this.#status() });
    });
    app.get('/api/cluster', (c) => {
      const status = this.controlled.monitor.remote();
      if (status === null)
        throw new Refused(404, 'NO_CLUSTER', 'this process runs its stages itself: it is no head');
      return c.json(status);
    });
    app.get('/api/history', async (c) => {
      const hours = z.coerce
        .number()
        .positive()
        .max(MAX_HISTORY_HOURS)
        .safeParse(c.req.query('hours') ?? 24);
      if (!hours.success)
        throw new Refused(400, 'QUERY', `expected \`hours\` above 0, at most ${MAX_HISTORY_HOURS}`);
      return c.json(await historyOf(this.controlled.monitor, hours.data, Date.now()));
    });
    app.get('/api/graph', async (c) => c.json({ ...this.#status(), ...(await this.#live.look()) }));
  }

  #films(app: Hono): void {
    const { worklist } = this.controlled;
    app.post('/api/films/search', async (c) => {
      const text = await c.req.text();
      const query = querySchema.safeParse(text === '' ? {} : JSON.parse(text));
      if (!query.success) throw new Refused(400, 'QUERY', z.prettifyError(query.error));
      const reviews = await this.#reviews().latest();
      const failures = await presentIds(this.#stateDir());
      const { total, films } = await worklist.find(query.data, reviews, failures);
      return c.json({
        total,
        films: films.map((film) => ({
          ...rowOf(film),
          review: shownOf(reviews.get(film.id)),
          discarded: film.outcome === 'failed' && !failures.has(film.id),
        })),
      });
    });
    app.post('/api/films/:id/review', async (c) => {
      const { answer, class: given, by } = decisionSchema.parse(await c.req.json());
      const { id, file, path, sha256, results } = await this.#film(c);
      if (answer === 'wrong' && given === undefined) {
        throw new Refused(400, 'CLASS', "expected `class`: the film's class where the models are wrong");
      }
      const label = given ?? (answer === 'right' ? labelOf(results) : null);
      const at = new Date().toISOString();
      const review = {
        id,
        file,
        path,
        sha256,
        answer,
        class: label,
        by: by === undefined || by === '' ? userInfo().username : by,
        at,
      };
      await this.#reviews().add(review);
      return c.json(shownOf(review));
    });
    app.get('/api/films/:id', async (c) => {
      const film = await this.#film(c);
      const { path: _path, ...shown } = film;
      const { pipeline } = this.controlled.monitor;
      const present = film.graph === pipeline?.hash;
      const models = present ? await modelsOf(pipeline) : [];
      const reviews = await this.#reviews().latest();
      return c.json({
        ...shown,
        review: shownOf(reviews.get(film.id)),
        discarded: film.outcome === 'failed' && !(await presentIds(this.#stateDir())).has(film.id),
        patient: await this.#patientOf(film),
        notice: NOTICE,
        graphIsPresent: present,
        /** The pictures of it: see {@link Pictures}. */
        stages: pipeline?.stages.map(({ id }) => id) ?? [],
        models: models.map((model) => ({
          stage: model.stage,
          folder: model.folder,
          name: model.bundle.name,
          createdAt: model.bundle.createdAt,
          labels: model.bundle.labels,
          gradCam: hasGradCam(model),
        })),
      });
    });
    app.get('/api/films/:id/thumbnail', async (c) => {
      const stages = this.controlled.monitor.pipeline?.stages.map(({ id }) => id) ?? [];
      return send(c, await this.#pictures.thumbnail(await this.#film(c), stages));
    });
    app.get('/api/films/:id/stages/:stage', async (c) =>
      send(c, await this.#pictures.stage(await this.#film(c), c.req.param('stage'))),
    );
    app.get('/api/films/:id/stages/:stage/pixels', async (c) => {
      await this.#oneOfFew(c);
      const shown = await this.#pictures.pixels(await this.#film(c), c.req.param('stage'));
      if (shown === null) throw new Refused(404, 'NO_PICTURE', 'the film does not reach that stage');
      const { width, height, channels, data } = shown.image;
      const bytes = Uint8Array.from(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      return c.body(bytes, 200, {
        'content-type': 'application/octet-stream',
        'x-image-width': String(width),
        'x-image-height': String(height),
        'x-image-channels': String(channels),
        'x-image-type': data.constructor.name,
        'x-image-view': viewHeader(shown.view),
      });
    });
    app.get('/api/films/:id/results/:stage/:field', async (c) =>
      send(c, await this.#pictures.result(await this.#film(c), c.req.param('stage'), c.req.param('field'))),
    );
  }

  /**
   * Resolves when a response with pixels may start. It counts as in progress until it is sent or its connection is
   * closed.
   */
  async #oneOfFew(c: Context): Promise<void> {
    const { outgoing } = c.env as { outgoing?: ServerResponse };
    if (outgoing === undefined) return;
    if (this.#sending < MAX_SENDING) this.#sending += 1;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    // A client that does not read blocks others and holds memory.
    const timer = setTimeout(() => outgoing.destroy(), SEND_MS);
    const done = (): void => {
      clearTimeout(timer);
      const next = this.#queue.shift();
      if (next === undefined) this.#sending -= 1;
      else next();
    };
    if (outgoing.closed) done();
    else outgoing.once('close', done);
  }

  #gradCam(app: Hono): void {
    app.get('/api/films/:id/grad-cam/:stage', async (c) => {
      const film = await this.#film(c);
      const stage = c.req.param('stage');
      const { pipeline } = this.controlled.monitor;
      const models = pipeline === undefined ? [] : await modelsOf(pipeline);
      const model = models.find((each) => each.stage === stage);
      if (model === undefined) throw new Refused(404, 'NO_MODEL', `the stage "${stage}" has no model`);
      const { label } = (film.results[stage] ?? {}) as { label?: string };
      const wanted = c.req.query('label') ?? label ?? '';
      const draw = async (image: Image): Promise<Image> => {
        this.#cam ??= new GradCam(await this.controlled.engine());
        return this.#cam.draw(model, image, wanted);
      };
      return send(
        c,
        await this.#pictures.drawn(
          film,
          stage,
          `grad-cam ${model.bundle.files['model']?.sha256 ?? ''} ${wanted}`,
          draw,
        ),
      );
    });
  }

  #streams(app: Hono): void {
    const { monitor, worklist } = this.controlled;
    app.get('/api/events', (c) =>
      this.#stream(c, async (stream) => {
        let waiting = 0;
        // A client that does not read is disconnected; the page connects again.
        const tell = (event: string, data: unknown): void => {
          if (waiting >= EVENT_QUEUE) {
            drop(c, stream);
            return;
          }
          waiting += 1;
          void say(stream, event, data).finally(() => (waiting -= 1));
        };
        const films = monitor.settled$.subscribe(({ id }) => {
          void worklist.get(id).then((film) => {
            if (film !== undefined) tell('film', rowOf(film));
          });
        });
        const graphs = monitor.attached$.subscribe(() => tell('graph', this.#status()));
        stream.onAbort(() => {
          films.unsubscribe();
          graphs.unsubscribe();
        });
        while (!stream.aborted) {
          const timer = setTimeout(() => drop(c, stream), SEND_MS);
          await say(stream, 'live', await this.#live.look());
          clearTimeout(timer);
          await stream.sleep(BEAT_MS);
        }
      }),
    );
    app.get('/api/tap/:id', (c) => {
      const id = c.req.param('id');
      const meter = monitor.meters.get(id);
      if (meter === undefined) {
        const known = [...monitor.meters.keys()].join(', ');
        throw new Refused(404, 'NO_ENTRY', `the graph has no entry "${id}" (there are ${known})`);
      }
      const pictures = c.req.query('pictures') !== undefined;
      return this.#stream(c, async (stream) => {
        let waiting = 0;
        let missed = 0;
        const frames = meter.passing$.subscribe((frame) => {
          const { image, origin, meta, results } = frame;
          const bytes = pictures ? (image?.data.byteLength ?? 0) : 0;
          if (waiting >= TAP_QUEUE || (waiting > 0 && this.#tapped + bytes > TAP_BYTES)) {
            missed += 1;
            return;
          }
          waiting += 1;
          this.#tapped += bytes;
          const told = {
            id: frame.id,
            file: origin.name,
            meta: withoutImages(meta),
            results: withoutImages(results),
            image: image && {
              width: image.width,
              height: image.height,
              channels: image.channels,
              type: image.data.constructor.name,
            },
            missed,
          };
          const png = pictures && image !== undefined ? toPng(image) : undefined;
          void Promise.resolve(png)
            .then((encoded) =>
              say(stream, 'frame', { ...told, png: encoded && Buffer.from(encoded).toString('base64') }),
            )
            .finally(() => {
              waiting -= 1;
              this.#tapped -= bytes;
            });
        });
        stream.onAbort(() => frames.unsubscribe());
        await say(stream, 'open', { id });
        while (!stream.aborted) {
          await stream.sleep(BEAT_MS);
          await stream.write(': still there\n\n');
        }
      });
    });
  }

  /** A stream of events. Only so many may be open: the other connections of a server are for questions. */
  #stream(c: Context, tell: (stream: SSEStreamingApi) => Promise<void>): Response {
    if (this.#streaming >= MAX_STREAMS) {
      c.header('retry-after', '5');
      throw new Refused(503, 'BUSY', `${MAX_STREAMS} event streams are open already`);
    }
    const { outgoing } = c.env as { outgoing?: ServerResponse };
    if (outgoing?.closed === false) {
      this.#streaming += 1;
      outgoing.once('close', () => (this.#streaming -= 1));
    }
    return streamSSE(c, tell);
  }

  #failures(app: Hono): void {
    const act = (path: string, deed: (stateDir: string, id: string) => Promise<DeadLetterEntry>): void => {
      app.post(path, async (c) => {
        const asked = chosenSchema.parse(await c.req.json());
        const stateDir = this.#stateDir();
        const ids = 'ids' in asked ? asked.ids : (await listEntries(stateDir)).map(({ id }) => id);
        const entries: DeadLetterEntry[] = [];
        for (const id of ids) entries.push(await deed(stateDir, id));
        return c.json({ failures: entries.map(failureOf) });
      });
    };
    app.get('/api/failures', async (c) =>
      c.json({ failures: (await listEntries(this.#stateDir())).map(failureOf) }),
    );
    app.post('/api/films/:id/replay', async (c) =>
      c.json(failureOf(await requestReplay(this.#stateDir(), c.req.param('id')))),
    );
    act('/api/failures/replay', requestReplay);
    act('/api/failures/discard', discardEntry);
  }

  #models(app: Hono): void {
    const { monitor, worklist } = this.controlled;
    app.get('/api/models', async (c) => {
      const models = monitor.pipeline === undefined ? [] : await modelsOf(monitor.pipeline);
      return c.json({
        notice: NOTICE,
        models: models.map(({ dir: _dir, ...model }) => ({
          ...model,
          calibration: calibrationInForce(model.bundle),
        })),
      });
    });
    app.get('/api/drift', async (c) => {
      const models = monitor.pipeline === undefined ? [] : await modelsOf(monitor.pipeline);
      return c.json({ models: driftOf(models, await worklist.all()) });
    });
    app.get('/api/shadow', async (c) =>
      c.json({
        shadows: compareShadows(await worklist.all()).map((compared) => ({
          ...compared,
          differing: compared.differing.slice(0, SHOWN_DIFFERING),
          differ: compared.differing.length,
        })),
      }),
    );
  }

  /** From the file itself; if it is gone, from the copy in the dead letter. */
  async #remake(graph: PipelineRun, film: WorklistFilm): Promise<Remade> {
    const origin = originOf(film);
    try {
      return await graph.remake(origin);
    } catch (error) {
      const kept = await readEntry(this.#stateDir(), film.id).then(
        (entry) => entry.kept,
        () => null,
      );
      if (kept === null) throw error;
      return graph.remake({ ...origin, path: kept });
    }
  }

  /** By what the film's patient is known, and how many films there are of it; the value may name a person. */
  async #patientOf(film: WorklistFilm): Promise<{ by: Patient['by']; films: number } | null> {
    const patient = patientOf(film);
    if (patient === undefined) return null;
    const query = { sort: 'newest', patient: film.id, offset: 0, limit: 0 } as const;
    return { by: patient.by, films: (await this.controlled.worklist.find(query)).total };
  }

  #reviews(): Reviews {
    this.#reviewed ??= new Reviews(this.#stateDir());
    return this.#reviewed;
  }

  #stateDir(): string {
    const { pipeline } = this.controlled.monitor;
    if (pipeline === undefined) throw new Refused(503, 'STARTING', 'the graph is not running yet');
    return pipeline.stateDir;
  }

  async #film(c: Context): Promise<WorklistFilm> {
    const film = await this.controlled.worklist.get(c.req.param('id') ?? '');
    if (film === undefined) throw new Refused(404, 'NO_FILM', 'the worklist has no film of that id');
    return film;
  }

  #state(): 'starting' | 'running' | 'stopping' {
    const { run, stopping } = this.controlled;
    if (run() === undefined) return 'starting';
    return stopping() ? 'stopping' : 'running';
  }

  #status() {
    const { monitor, version } = this.controlled;
    const { pipeline } = monitor;
    return {
      name: pipeline?.name ?? null,
      graph: pipeline?.hash ?? null,
      state: this.#state(),
      version,
      pid: process.pid,
      startedAt: monitor.startedAt.toISOString(),
      notice: NOTICE,
      limits: pipeline?.limits ?? null,
      threads: monitor.threads,
      /** The watched folders, as written in the pipeline file. */
      folders: pipeline?.sources.flatMap(({ settings }) => folderOf(settings)) ?? [],
    };
  }
}

/** The error of a request that cannot be fulfilled. */
class Refused extends Error {
  constructor(
    readonly status: 400 | 401 | 404 | 409 | 503,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Requests must be short and state their length. */
const shortBody: MiddlewareHandler = async (c, next) => {
  const length = Number(c.req.header('content-length') ?? 0);
  if (length <= MAX_BODY && c.req.header('transfer-encoding') === undefined) return next();
  return c.json(
    problem('BODY', `expected at most ${MAX_BODY} bytes, and their number in Content-Length`),
    413,
  );
};

function problem(code: string, message: string): { error: { code: string; message: string } } {
  return { error: { code, message } };
}

/** Closes the connection of a client that does not read. */
function drop(c: Context, stream: SSEStreamingApi): void {
  stream.abort();
  (c.env as { outgoing?: ServerResponse }).outgoing?.destroy();
}

function say(stream: SSEStreamingApi, event: string, data: unknown): Promise<void> {
  return stream.writeSSE({ event, data: JSON.stringify(data) });
}

/** A film's bytes never change under its id, but a new graph makes other pictures of it: browsers must revalidate. */
function send(c: Context, picture: Picture | null): Response {
  if (picture === null) throw new Refused(404, 'NO_PICTURE', 'there is no picture of the film at that stage');
  const etag = `"${createHash('sha256').update(picture.data).digest('hex').slice(0, 32)}"`;
  const fields = { etag, 'cache-control': 'private, no-cache', 'x-image-view': viewHeader(picture.view) };
  if (c.req.header('if-none-match') === etag) return c.body(null, 304, fields);
  return c.body(picture.data, 200, { 'content-type': picture.type, ...fields });
}

/** `x,y,width,height` of the part of the film that a picture shows, then the film's width and height, all in its pixels. */
function viewHeader({ x, y, width, height, film }: View): string {
  return [x, y, width, height, film.width, film.height].join();
}

function folderOf(settings: unknown): string[] {
  const { path } = (settings ?? {}) as { path?: unknown };
  return typeof path === 'string' ? [path] : [];
}

/** A decision, without the film's path. */
function shownOf(review: Review | undefined): Pick<Review, 'answer' | 'class' | 'by' | 'at'> | null {
  if (review === undefined) return null;
  const { answer, class: label, by, at } = review;
  return { answer, class: label, by, at };
}

/** The class from the film's first classifier; without one, `abnormal` or `healthy` by the verdict. */
function labelOf(results: WorklistFilm['results']): string | null {
  for (const result of Object.values(results)) {
    const { label, positives } = (result ?? {}) as { label?: unknown; positives?: unknown };
    if (typeof label === 'string' && positives === undefined) return label;
  }
  const { abnormal } = verdictOf(results);
  return abnormal === null ? null : abnormal ? 'abnormal' : 'healthy';
}

/** A dead-letter entry, without paths. */
function failureOf({ kept, path: _path, ...entry }: DeadLetterEntry): object {
  return { ...entry, kept: kept !== null };
}

function originOf({ source, file, path, size, mtimeMs, sha256, receivedAt }: WorklistFilm): Origin {
  return { source, name: file, path, size, mtimeMs, sha256, receivedAt };
}
