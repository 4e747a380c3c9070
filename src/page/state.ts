import { signal } from '@preact/signals';
import * as api from './api.js';

/** The latest state of the process. */
export const status = signal<api.Status | null>(null);
export const live = signal<api.Live | null>(null);
/** Films per second, newest last, one number a second. */
export const history = signal<readonly { readonly at: number; readonly rate: number }[]>([]);
/** Incremented with each settled film, so that the worklist reloads. */
export const settled = signal(0);
/** Films of the worklist that have failed, without those that were replayed and are done, or were discarded. */
export const failed = signal(0);
/** A message for sighted users and screen readers: a film has failed, the graph was replaced. */
export const announcement = signal('');
export const connection = signal<'connecting' | 'open' | 'lost' | 'token'>('connecting');
/** The route after `#`: `films?sort=…`, `films/ID`, `graph`, `models`. */
export const place = signal(location.hash.slice(1) || 'films');

export const HISTORY_SECONDS = 120;

addEventListener('hashchange', () => {
  place.value = location.hash.slice(1) || 'films';
});

/** Subscribes to the events; logs in first if the address has a token. */
export async function connect(): Promise<void> {
  const token = /^token=(.+)$/.exec(place.value)?.[1];
  try {
    if (token !== undefined) {
      // Removed at once, so that the token is not in the history.
      window.history.replaceState(null, '', location.pathname);
      place.value = 'films';
      await api.logIn(token);
    }
    status.value = await api.status();
  } catch (error) {
    connection.value = error instanceof api.ApiError && error.status === 401 ? 'token' : 'lost';
    if (connection.value === 'lost') setTimeout(() => void connect(), 2000);
    return;
  }
  listen();
}

/** The events of the process, by name. */
interface Events {
  readonly live: api.Live;
  readonly film: api.Row;
  readonly graph: api.Status;
}

const RETRY_MS = 5000;

function listen(): void {
  const events = new EventSource('/api/events');
  const on = <N extends keyof Events>(name: N, act: (data: Events[N]) => void): void => {
    events.addEventListener(name, ({ data }: MessageEvent<string>) => {
      act(JSON.parse(data) as Events[N]);
    });
  };
  events.addEventListener('open', () => {
    connection.value = 'open';
    countFailed();
    settled.value += 1;
  });
  events.addEventListener('error', () => {
    connection.value = 'lost';
    // After an answer that is no stream the browser does not try again by itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS);
  });
  on('live', (now) => {
    live.value = now;
    const rate = { at: Date.parse(now.at) / 1000, rate: now.filmsPerSecond };
    history.value = [...history.value.slice(1 - HISTORY_SECONDS), rate];
  });
  on('film', ({ outcome }) => {
    settled.value += 1;
    countFailed();
    if (outcome === 'failed') announcement.value = 'A film has failed.';
  });
  on('graph', (now) => {
    status.value = now;
    announcement.value = 'The graph was replaced.';
  });
}

/** Films that settle within this time are counted together. */
const COUNT_MS = 1000;
let counting: ReturnType<typeof setTimeout> | undefined;

/** Reads list and counts again, after a request that changes them without an event. */
export function refresh(): void {
  settled.value += 1;
  countFailed();
}

function countFailed(): void {
  counting ??= setTimeout(() => {
    counting = undefined;
    void api.search({ sort: 'newest', outcome: 'failed', offset: 0, limit: 1 }).then(
      ({ total }) => {
        failed.value = total;
      },
      () => undefined,
    );
  }, COUNT_MS);
}
