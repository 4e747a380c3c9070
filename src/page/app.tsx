import { FilmView } from './film.js';
import { GraphView } from './graph.js';
import { LogIn } from './log-in.js';
import { ModelsView } from './models.js';
import { announcement, connection, failed, live, place, status } from './state.js';
import { Worklist } from './worklist.js';

const TABS = [
  ['films', 'Films'],
  ['graph', 'Graph'],
  ['models', 'Models'],
] as const;

export function App() {
  const [tab = 'films', id] = (place.value.split('?')[0] ?? '').split('/');
  return (
    <>
      <a class="skip" href="#main" onClick={focusMain}>
        Skip to content
      </a>
      <header>
        <h1>
          <img src="./icon.svg" alt="" width="28" height="28" />
          rxray <span class="name">{status.value?.name}</span>
        </h1>
        <nav aria-label="Views">
          {TABS.map(([key, label]) => (
            <a key={key} href={`#${key}`} aria-current={tab === key ? 'page' : undefined}>
              {label}
            </a>
          ))}
        </nav>
        <State />
      </header>
      <main id="main" tabIndex={-1}>
        {connection.value === 'token' ? (
          <LogIn />
        ) : tab === 'graph' ? (
          <GraphView />
        ) : tab === 'models' ? (
          <ModelsView />
        ) : id === undefined ? (
          <Worklist />
        ) : (
          <FilmView key={id} id={id} />
        )}
      </main>
      <footer>
        <strong>{status.value?.notice ?? 'Not a medical device: for research, not for diagnosis.'}</strong>
        <span>rxray {status.value?.version}</span>
      </footer>
      <div class="hidden" role="status">
        {announcement.value}
      </div>
    </>
  );
}

/** Status in one line: state, rate, failures. */
function State() {
  const { films, filmsPerSecond, load } = live.value ?? {};
  const state = connection.value === 'open' ? (status.value?.state ?? 'running') : connection.value;
  return (
    <p class="state">
      <span class={`dot ${state}`} /> {state === 'lost' ? 'connection lost' : state}
      {films !== undefined && load !== undefined && (
        <>
          {' · '}
          {films.done} done since the start
          {failed.value > 0 && (
            <>
              {' · '}
              <a class="bad" href="#films?outcome=failed">
                {failed.value} failed
              </a>
            </>
          )}
          {load.waiting + load.frames > 0 && ` · ${String(load.waiting + load.frames)} in progress`}
          {' · '}
          {(filmsPerSecond ?? 0).toFixed(1)} films/s
        </>
      )}
    </p>
  );
}

/** Does not change the address: its `#` part is the page's route. */
function focusMain(event: Event): void {
  event.preventDefault();
  document.querySelector<HTMLElement>('main')?.focus();
}
