import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { shadows as fetchShadows, type ShownShadow } from './api.js';
import { percent, wordsOf } from './result.js';

/** How the stages with `shadow: true` agree with the verdicts, on the films of the worklist. */
export function Shadows() {
  const shadows = useSignal<readonly ShownShadow[]>([]);
  const fault = useSignal('');
  useEffect(() => {
    fetchShadows().then(
      (found) => {
        shadows.value = found;
      },
      (error: unknown) => {
        fault.value = error instanceof Error ? error.message : String(error);
      },
    );
  }, []);
  return (
    <>
      <p role="alert">{fault}</p>
      {shadows.value.map((shadow) => (
        <Shadow key={shadow.stage} shadow={shadow} />
      ))}
    </>
  );
}

function Shadow({ shadow }: { readonly shadow: ShownShadow }) {
  const { stage, films, missing, verdict, labels, differing, differ } = shadow;
  return (
    <section class="panel" aria-label={`Shadow stage ${stage}`}>
      <h3>
        {stage} <small>shadow stage: compared with the verdicts, not part of them</small>
      </h3>
      <p>
        {films === 1 ? '1 film' : `${films.toLocaleString()} films`}
        {missing > 0 && `, and ${missing.toLocaleString()} without its result`}. In brackets: 95 % intervals
        (Wilson).
      </p>
      {verdict !== null && (
        <>
          <p>
            Same verdict: <Share of={verdict.agreement} />
          </p>
          <table class="small">
            <thead>
              <tr>
                <td />
                <th scope="col">{stage}: suspicious</th>
                <th scope="col">not</th>
              </tr>
            </thead>
            <tbody>
              <tr>
                <th scope="row">graph: suspicious</th>
                <td class="number">{verdict.both}</td>
                <td class="number">{verdict.onlyGraph}</td>
              </tr>
              <tr>
                <th scope="row">not</th>
                <td class="number">{verdict.onlyShadow}</td>
                <td class="number">{verdict.neither}</td>
              </tr>
            </tbody>
          </table>
        </>
      )}
      {labels.length > 0 && (
        <table>
          <thead>
            <tr>
              <th scope="col">Class by the graph</th>
              <th scope="col">Films</th>
              <th scope="col">Same class</th>
              <th scope="col">Else</th>
            </tr>
          </thead>
          <tbody>
            {labels.map(({ label, films: count, agreement, shadow: given }) => (
              <tr key={label}>
                <th scope="row">{wordsOf(label)}</th>
                <td>{count}</td>
                <td>
                  <Share of={agreement} />
                </td>
                <td>
                  {Object.entries(given)
                    .filter(([other]) => other !== label)
                    .sort(([, a], [, b]) => b - a)
                    .map(([other, n]) => `${wordsOf(other)} ${String(n)}`)
                    .join(', ')}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {differ > 0 && (
        <details>
          <summary>
            {differ === 1 ? '1 film' : `${differ.toLocaleString()} films`} that they differ on
            {differ > differing.length && `; the ${String(differing.length)} furthest apart`}
          </summary>
          <table>
            <thead>
              <tr>
                <th scope="col">Film</th>
                <th scope="col">Graph</th>
                <th scope="col">{stage}</th>
              </tr>
            </thead>
            <tbody>
              {differing.map(({ id, file, graph, shadow: other }) => (
                <tr key={id}>
                  <th scope="row">
                    <a href={`#films/${id}`}>{file}</a>
                  </th>
                  <td>{textOf(graph)}</td>
                  <td>{textOf(other)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </details>
      )}
    </section>
  );
}

type Said = ShownShadow['differing'][number]['graph'];

/** `⚑ 0.97 bacterial`. */
function textOf({ abnormal, suspicion, label }: Said): string {
  const flag = abnormal === null ? '' : abnormal ? '⚑' : '✓';
  return [flag, suspicion?.toFixed(2), label === null ? '' : wordsOf(label)]
    .filter((part) => part !== undefined && part !== '')
    .join(' ');
}

/** `93 % (88 %–96 %)`. */
function Share({ of: { value, low, high } }: { readonly of: { value: number; low: number; high: number } }) {
  return (
    <>
      {percent(value)} ({percent(low)}–{percent(high)})
    </>
  );
}
