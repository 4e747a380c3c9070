import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { film as fetchFilm, stageUrl, type FilmDetails, type Result } from './api.js';
import { show, shown } from './light-box.js';
import { neighbour, opened, query } from './list.js';
import { DiscardButton, ReplayButton } from './replay.js';
import { isTyping, ReviewPanel } from './review.js';
import {
  answersOf,
  ClassBars,
  foundOf,
  isAnomaly,
  isClassification,
  isDetection,
  Percentile,
  percent,
  Suspicion,
  titleOf,
  wordsOf,
} from './result.js';
import { Viewer } from './viewer.js';

/** Details of one film: picture, results of the models, output of every stage. */
export function FilmView({ id }: { readonly id: string }) {
  const film = useSignal<FilmDetails | null>(null);
  const fault = useSignal('');
  useEffect(() => {
    fetchFilm(id).then(
      (found) => {
        film.value = found;
      },
      (error: unknown) => {
        fault.value = error instanceof Error ? error.message : String(error);
      },
    );
  }, [id]);
  useEffect(() => {
    const press = (event: KeyboardEvent): void => {
      if (isTyping(event)) return;
      if (event.key === 'Escape') location.hash = listAddress();
      const step = ({ j: 1, k: -1 } as const)[event.key];
      if (step !== undefined) void go(step);
    };
    addEventListener('keydown', press);
    return () => {
      removeEventListener('keydown', press);
    };
  }, []);
  const found = film.value;
  if (found === null) return <p role="alert">{fault}</p>;
  return (
    <article class="film">
      <p>
        <a href={listAddress()}>← all films</a>{' '}
        <small>
          <kbd>J</kbd> next, <kbd>K</kbd> previous, <kbd>C</kbd> compare, <kbd>Esc</kbd> back
        </small>
      </p>
      <h2>{found.file}</h2>
      {found.patient !== null && found.patient.films > 1 && (
        <p>
          <a href={`#films?patient=${id}`}>
            All {found.patient.films} films of this {found.patient.by}
          </a>
        </p>
      )}
      <p class="notice">{found.notice}</p>
      <div class="columns">
        {found.outcome === 'done' && <Viewer film={found} />}
        <div class="facts-of-film">
          <Verdict film={found} />
          {found.outcome === 'done' && <ReviewPanel film={found} />}
          <Origin film={found} />
          <Timings film={found} />
        </div>
      </div>
      {found.outcome === 'done' && <Stages film={found} />}
      <details>
        <summary>Everything, as JSON</summary>
        <pre tabIndex={0}>{JSON.stringify(found, null, 2)}</pre>
      </details>
    </article>
  );
}

/** Back to the list, at the row of this film. */
function listAddress(): string {
  const kept = Object.entries(query.value).filter(([key]) => key !== 'text');
  const parts = new URLSearchParams(kept.map(([key, value]) => [key, String(value)]));
  if (query.value.sort === 'newest') parts.delete('sort');
  if (opened.value > 0) parts.set('at', String(opened.value));
  return parts.size === 0 ? '#films' : `#films?${parts.toString()}`;
}

/** To the previous or next film of the list. */
async function go(step: 1 | -1): Promise<void> {
  const row = await neighbour(opened.value, step).catch(() => undefined);
  if (row === undefined) return;
  opened.value += step;
  show({ stage: shown().beside === null ? null : shown().stage }, row.id);
}

function Verdict({ film }: { readonly film: FilmDetails }) {
  if (film.failure !== null) {
    const { code, stage, message } = film.failure;
    return (
      <section class="panel failed">
        <h3>It failed{stage !== null && ` in ${stage}`}</h3>
        <p>{message}</p>
        <p>
          <code>{code}</code>{' '}
          {film.discarded === true ? (
            'Discarded: its copy and reason are deleted, the file stays where it was.'
          ) : (
            <>
              <ReplayButton id={film.id} /> <DiscardButton id={film.id} />
            </>
          )}
        </p>
      </section>
    );
  }
  const results = Object.entries(film.results);
  return (
    <section class="panel">
      <h3>
        <Suspicion row={film} /> {answersOf(film)}
      </h3>
      <VerdictText film={film} />
      {results.map(([stage, result]) => (
        <div key={stage} class="result">
          <h4>
            {titleOf(result) ?? stage}{' '}
            <small>{titleOf(result) !== undefined && namesOf(film, stage, result)}</small>
          </h4>
          <Segmented result={result} />
          {titleOf(result) === undefined && <Fields result={result} />}
          {isClassification(result) && <ClassBars result={result} />}
          {isDetection(result) && <p>{foundOf(result) || 'Nothing found.'}</p>}
          {isAnomaly(result) && (
            <p>
              Share of normal films with a lower score: <Percentile result={result} />
            </p>
          )}
        </div>
      ))}
    </section>
  );
}

/** `classes: chest-resnet`; shadow stages are marked. */
function namesOf({ models }: FilmDetails, stage: string, result: Result): string {
  const model = models.find((each) => each.stage === stage)?.name;
  const names = model === undefined ? stage : `${stage}: ${model}`;
  return 'shadow' in result && result.shadow ? `${names}, shadow: not part of the verdict` : names;
}

/** The fields of a result of a kind that the page does not know. */
function Fields({ result }: { readonly result: Result }) {
  const fields = Object.entries(result).filter(
    ([key, value]) =>
      key !== 'kind' && value !== '' && ['string', 'number', 'boolean'].includes(typeof value),
  );
  return <p>{fields.map(([key, value]) => `${wordsOf(key)}: ${String(value)}`).join(', ')}</p>;
}

/** How much of the film is lung, and why that may be wrong. */
function Segmented({ result }: { readonly result: Result }) {
  const { kind, areaFraction, plausible, reason } = result as Partial<Record<string, unknown>>;
  if (kind !== 'segmentation' || typeof areaFraction !== 'number') return null;
  return (
    <p>
      {percent(areaFraction)} of the film{plausible === false && <span class="bad">: {String(reason)}</span>}
    </p>
  );
}

/** The stage that decides, its score and its threshold. */
function VerdictText({ film: { verdict } }: { readonly film: FilmDetails }) {
  const { abnormal, stage, score, threshold } = verdict;
  if (abnormal === null || stage === null) return null;
  const numbers =
    score === null || threshold === null
      ? ''
      : ` gives ${score.toPrecision(3)}; its threshold is ${threshold.toPrecision(3)}`;
  return (
    <p class="why">
      {abnormal ? 'Suspicious: ' : 'Not suspicious: '}
      <strong>{stage}</strong>
      {numbers}. Suspicion is 0–1 for every model, 0.5 at its threshold.
    </p>
  );
}

function Origin({ film }: { readonly film: FilmDetails }) {
  const { models, graph, graphIsPresent, receivedAt, settledAt, size, meta, id } = film;
  const facts: [string, string][] = [
    ['Received', new Date(receivedAt).toLocaleString()],
    ['Done', new Date(settledAt).toLocaleString()],
    ['Size', size < 1024 ? `${String(size)} bytes` : `${(size / 1024).toFixed(0)} KiB`],
    ...Object.entries(meta)
      .filter(([, value]) => typeof value !== 'object')
      .map(([key, value]): [string, string] => [key, String(value)]),
    ...models.map(({ stage, name, createdAt }): [string, string] => [
      `Model of ${stage}`,
      `${name}, ${new Date(createdAt).toLocaleDateString()}`,
    ]),
    ['Graph', `${graph.slice(0, 12)}${graphIsPresent ? '' : ' (not the current one)'}`],
    ['Id', id],
  ];
  return (
    <section class="panel">
      <h3>Origin</h3>
      <dl>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

/** When each stage and sink processed it. */
function Timings({ film }: { readonly film: FilmDetails }) {
  const { timings } = film;
  if (timings.length === 0) return null;
  const start = Math.min(...timings.map(({ startedAt }) => startedAt));
  const end = Math.max(...timings.map(({ startedAt, ms }) => startedAt + ms));
  const share = (ms: number): number => (100 * ms) / Math.max(1, end - start);
  return (
    <section class="panel">
      <h3>{(end - start).toFixed(0)} ms</h3>
      <table class="timings">
        <thead class="hidden">
          <tr>
            <th>Stage or sink</th>
            <th>When</th>
            <th>Duration</th>
          </tr>
        </thead>
        <tbody>
          {timings.map(({ component, startedAt, ms, batch }, i) => (
            <tr key={i}>
              <th scope="row">{component}</th>
              <td>
                <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
                  <rect x={share(startedAt - start)} width={Math.max(0.6, share(ms))} height="8" rx="1" />
                </svg>
              </td>
              <td class="number">
                {ms.toFixed(1)} ms{batch > 1 && <small> for {batch}</small>}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** Its picture after every stage: a click shows it large. */
function Stages({ film }: { readonly film: FilmDetails }) {
  return (
    <section>
      <h3>Stages</h3>
      <ol class="stages">
        {film.stages.map((stage) => (
          <Stage key={stage} id={film.id} stage={stage} />
        ))}
      </ol>
    </section>
  );
}

function Stage({ id, stage }: { readonly id: string; readonly stage: string }) {
  const missing = useSignal(false);
  if (missing.value) return null;
  const { stage: large, beside, besideStage } = shown();
  const open = (change: Parameters<typeof show>[0]): void => {
    show(change);
    document.querySelector('.viewer')?.scrollIntoView({ block: 'nearest' });
  };
  return (
    <li>
      <figure>
        <button
          type="button"
          aria-pressed={large === stage}
          title={`Show the film after ${stage}`}
          onClick={() => {
            open({ stage });
          }}
        >
          <img
            src={stageUrl(id, stage)}
            alt={`The film after ${stage}`}
            loading="lazy"
            onError={() => {
              missing.value = true;
            }}
          />
        </button>
        <figcaption>
          {stage}{' '}
          <button
            type="button"
            aria-pressed={beside === id && besideStage === stage}
            aria-label={`Show ${stage} beside`}
            onClick={() => {
              open({ beside: id, besideStage: stage });
            }}
          >
            beside
          </button>
        </figcaption>
      </figure>
    </li>
  );
}
