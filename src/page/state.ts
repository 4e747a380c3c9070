import { signal } from '@preact/signals';
import * as api from './api.js';

/** What the process last said of itself. */
export const status = signal<api.Status | null>(null);
export const live = signal<api.Live | null>(null);
/** Films per second, newest last, one number a second. */
export const history = signal<readonly { readonly at: number; readonly rate: number }[]>([]);
/** Counts up whenever a film has settled: the worklist looks again. */
export const settled = signal(0);
/** Said to everybody, and read aloud: a film that came, a graph that was exchanged. */
export const announcement = signal('');
export const connection = signal<'connecting' | 'open' | 'lost' | 'token'>('connecting');
/** What stands behind the `#`: `films?sort=…`, `films/ID`, `graph`, `models`. */
export const place = signal(location.hash.slice(1) || 'films');

export const HISTORY_SECONDS = 120;

addEventListener('hashchange', () => {
  place.value = location.hash.slice(1) || 'films';
});

/** Begins to listen; logs in first when the address carries a token. */
export async function connect(): Promise<void> {
  const token = /^token=(.+)$/.exec(place.value)?.[1];
  try {
    if (token !== undefined) {
      // Out of the address at once: it must not stay in the history.
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

/** What the process tells of itself, by the event's name. */
interface Events {
  readonly live: api.Live;
  readonly film: api.Row;
  readonly graph: api.Status;
}

function listen(): void {
  const events = new EventSource('/api/events');
  const on = <N extends keyof Events>(name: N, act: (data: Events[N]) => void): void => {
    events.addEventListener(name, ({ data }: MessageEvent<string>) => {
      act(JSON.parse(data) as Events[N]);
    });
  };
  events.addEventListener('open', () => {
    connection.value = 'open';
    settled.value += 1;
  });
  events.addEventListener('error', () => {
    connection.value = 'lost';
  });
  on('live', (now) => {
    live.value = now;
    const rate = { at: Date.parse(now.at) / 1000, rate: now.filmsPerSecond };
    history.value = [...history.value.slice(1 - HISTORY_SECONDS), rate];
  });
  on('film', ({ outcome }) => {
    settled.value += 1;
    if (outcome === 'failed') announcement.value = 'A film has failed.';
  });
  on('graph', (now) => {
    status.value = now;
    announcement.value = 'The graph was exchanged.';
  });
}
