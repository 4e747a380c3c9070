import { useSignal } from '@preact/signals';
import { useEffect, useMemo } from 'preact/hooks';
import { layOut } from '../control/layout.js';
import { historyOfHours, type History, type Live, type LiveNode } from './api.js';
import { Chart, type Series } from './chart.js';
import { percent } from './result.js';
import { history, HISTORY_SECONDS, live } from './state.js';

const BOX = { width: 172, height: 84 };
/** Below this scale the text would be too small to read. */
const LEAST_SCALE = 0.8;

/** The running graph as a picture and as a table. */
export function GraphView() {
  const now = live.value;
  if (now === null) return <p>Waiting for data…</p>;
  return (
    <article class="graph">
      <h2>Graph</h2>
      <Summary now={now} />
      <Picture nodes={now.nodes} limiting={now.limiting} />
      <Throughput />
      <Numbers nodes={now.nodes} limiting={now.limiting} />
      {now.cluster !== null && <Workers cluster={now.cluster} />}
    </article>
  );
}

function Summary({ now }: { readonly now: Live }) {
  const { load, limiting, memory, filmsPerSecond, films } = now;
  const facts: [string, string][] = [
    ['Films per second', filmsPerSecond.toFixed(1)],
    ['Waiting', String(load.waiting)],
    ['In flight', `${String(load.frames)} (${mebibytes(load.bytes)})`],
    ['Done since the start', String(films.done)],
    ['Failed since the start', String(films.failed)],
    ...(films.leftAlone > 0 ? [['Left alone: no images', String(films.leftAlone)] as [string, string]] : []),
    ['Memory', mebibytes(memory)],
    ['Bottleneck', limiting ?? 'none: waiting for films'],
  ];
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

interface Parts {
  readonly nodes: readonly LiveNode[];
  readonly limiting: string | null;
}

/** Entries from left to right, each after those that it takes frames from. */
function Picture({ nodes, limiting }: Parts) {
  // Laid out again only when the graph is another: the numbers change every second.
  const shape = JSON.stringify(nodes.map(({ id, from }) => [id, from]));
  const { boxes, arrows, width, height } = useMemo(() => {
    const drawn = new Map(nodes.map(({ id }) => [id, BOX]));
    const between = nodes.flatMap(({ id, from }) => from.map((source) => ({ from: source, to: id })));
    const known = between.filter(({ from }) => drawn.has(from));
    return layOut(drawn, known, { nodesep: 22, ranksep: 40, margin: 2 });
  }, [shape]);
  return (
    <div
      class="picture"
      tabIndex={0}
      role="region"
      aria-label="Picture of the graph; the table below has the same numbers"
    >
      <svg
        viewBox={`0 0 ${String(width)} ${String(height)}`}
        style={{ maxWidth: `${String(width)}px`, minWidth: `${String(LEAST_SCALE * width)}px` }}
        aria-hidden="true"
      >
        {arrows.map(({ path }) => (
          <path key={path} class="edge" d={path} />
        ))}
        {nodes.map((node) => {
          const { x, y } = boxes.get(node.id) ?? { x: 0, y: 0 };
          return (
            <g
              key={node.id}
              transform={`translate(${String(x - BOX.width / 2)},${String(y - BOX.height / 2)})`}
              class={`box ${node.kind} ${node.id === limiting ? 'limiting' : ''}`}
            >
              <rect width={BOX.width} height={BOX.height} rx="8" />
              <rect class="busy" y={BOX.height - 5} height="5" rx="2" width={BOX.width * (node.busy ?? 0)} />
              <text x="12" y="24" class="id">
                {node.id}
              </text>
              {node.use !== node.id && (
                <text x={BOX.width - 12} y="24" class="use">
                  {node.use}
                </text>
              )}
              <text x="12" y="46">
                {node.framesPerSecond.toFixed(1)}/s{node.ms !== null && ` · ${node.ms.toFixed(1)} ms`}
              </text>
              <text x="12" y="66">
                {node.queue + node.inFlight > 0
                  ? `${String(node.queue)} waiting, ${String(node.inFlight)} in progress`
                  : `${String(node.framesOut)} through`}
              </text>
              {node.errors > 0 && (
                <text x={BOX.width - 12} y="66" class="errors">
                  {node.errors} ✗
                </text>
              )}
            </g>
          );
        })}
      </svg>
    </div>
  );
}

/** Live, or hours from the journal. */
const SPANS: Readonly<Record<string, number | undefined>> = {
  'two minutes': undefined,
  hour: 1,
  day: 24,
  week: 7 * 24,
  month: 30 * 24,
};
/** How often the history is read again. */
const HISTORY_MS = 15_000;

function Throughput() {
  const span = useSignal('two minutes');
  const hours = SPANS[span.value];
  return (
    <section>
      <h3>
        Films in the last{' '}
        <select
          aria-label="Films in the last"
          value={span.value}
          onChange={({ currentTarget }) => {
            span.value = currentTarget.value;
          }}
        >
          {Object.keys(SPANS).map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </h3>
      {hours === undefined ? (
        <Chart
          kind="line"
          x={history.value.map(({ at }) => at)}
          span={HISTORY_SECONDS}
          series={[{ label: 'Films per second', values: history.value.map(({ rate }) => rate) }]}
          label="Films per second over time"
        />
      ) : (
        <Past key={hours} hours={hours} />
      )}
    </section>
  );
}

/** How many films settled, and how many were suspicious, over the last hours. */
function Past({ hours }: { readonly hours: number }) {
  const past = useSignal<History | null>(null);
  const fault = useSignal('');
  useEffect(() => {
    const read = (): void => {
      historyOfHours(hours).then(
        (found) => {
          past.value = found;
          fault.value = '';
        },
        (error: unknown) => {
          fault.value = error instanceof Error ? error.message : String(error);
        },
      );
    };
    read();
    const timer = setInterval(read, HISTORY_MS);
    return () => {
      clearInterval(timer);
    };
  }, [hours]);
  if (past.value === null) return <p role="alert">{fault}</p>;
  const { intervals, minutes } = past.value;
  const sum = (key: 'done' | 'failed' | 'skipped' | 'suspicious'): number =>
    intervals.reduce((total, interval) => total + interval[key], 0);
  const done = sum('done');
  const counts = [
    `${done.toLocaleString()} done`,
    `${sum('suspicious').toLocaleString()} of them suspicious${done > 0 ? ` (${percent(sum('suspicious') / done)})` : ''}`,
    `${sum('failed').toLocaleString()} failed`,
    `${sum('skipped').toLocaleString()} skipped`,
  ].join(', ');
  const every =
    minutes === 1
      ? 'minute'
      : minutes < 60
        ? `${String(minutes)} minutes`
        : minutes === 60
          ? 'hour'
          : `${String(minutes / 60)} hours`;
  const series: Series[] = [
    { label: `Done per ${every}`, values: intervals.map((each) => each.done) },
    { label: 'Suspicious', values: intervals.map(({ suspicious }) => suspicious) },
  ];
  return (
    <>
      <p role="alert">{fault}</p>
      <p>{counts}.</p>
      <Chart
        kind="line"
        x={intervals.map(({ at }) => at / 1000)}
        series={series}
        label={`Films per ${every}: ${counts}`}
      />
    </>
  );
}

function Numbers({ nodes, limiting }: Parts) {
  const sorted = useSignal<'order' | 'busy'>('order');
  const rows = sorted.value === 'order' ? nodes : [...nodes].sort((a, b) => (b.busy ?? -1) - (a.busy ?? -1));
  return (
    <section>
      <h3>Entries</h3>
      <label class="inline">
        <input
          type="checkbox"
          checked={sorted.value === 'busy'}
          onChange={({ currentTarget }) => {
            sorted.value = currentTarget.checked ? 'busy' : 'order';
          }}
        />
        busiest first
      </label>
      <div class="wide" tabIndex={0} role="region" aria-label="Numbers of every source, stage and sink">
        <table>
          <thead>
            <tr>
              {[
                'Entry',
                'Plugin',
                'Per second',
                'Through',
                'Waiting',
                'In work',
                'Batch',
                'Call',
                'Busy',
                'Errors',
              ].map((name, i) => (
                <th key={name} scope="col" class={i > 1 ? 'number' : ''}>
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((node) => (
              <tr key={node.id} class={node.id === limiting ? 'limiting' : ''}>
                <th scope="row">
                  {node.id}
                  {node.id === limiting && <small> sets the pace</small>}
                  {node.trouble !== null && (
                    <p class="bad">
                      Since {new Date(node.trouble.since).toLocaleString()}: {node.trouble.message}
                    </p>
                  )}
                </th>
                <td>
                  {node.use}
                  {node.when !== null && <code class="when">when {node.when}</code>}
                </td>
                <td class="number">{node.framesPerSecond.toFixed(1)}</td>
                <td class="number">{node.framesOut}</td>
                <td class="number">{node.queue}</td>
                <td class="number">{node.inFlight}</td>
                <td class="number">{node.batch?.toFixed(1) ?? '–'}</td>
                <td class="number">{node.ms === null ? '–' : `${node.ms.toFixed(1)} ms`}</td>
                <td class="number">{node.busy === null ? '–' : percent(node.busy)}</td>
                <td class={node.errors > 0 ? 'number bad' : 'number'}>{node.errors}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** The workers on other machines. */
function Workers({ cluster }: { readonly cluster: NonNullable<Live['cluster']> }) {
  const { workers, backlog, desired } = cluster;
  return (
    <section>
      <h3>Workers</h3>
      <p>
        {workers.length} running, {desired} wanted; {backlog} films waiting or in progress
      </p>
      <div class="wide" tabIndex={0} role="region" aria-label="Numbers of every worker">
        <table>
          <thead>
            <tr>
              {['Worker', 'Through', 'Per second', 'In work', 'Room'].map((name, i) => (
                <th key={name} scope="col" class={i > 0 ? 'number' : ''}>
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {workers.map(({ name, through, filmsPerSecond, films, room }) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td class="number">{through}</td>
                <td class="number">{filmsPerSecond?.toFixed(1) ?? '–'}</td>
                <td class="number">{films}</td>
                <td class="number">{room}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(0)} MiB`;
}
