import { batch, signal, useSignalEffect } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { search, thumbnailUrl, type Query, type Row } from './api.js';
import { ReplayButton } from './replay.js';
import {
  ClassBars,
  isAnomaly,
  isClassification,
  Percentile,
  Suspicion,
  timeOf,
  answersOf,
} from './result.js';
import { settled } from './state.js';

/** Pixels: CSS knows the same number. */
const ROW_HEIGHT = 64;
const PAGE = 100;
/** Rows beyond the edges, so that scrolling shows no gaps. */
const MARGIN = 8;
/** A burst of films is one look at the list. */
const REST_MS = 250;

const query = signal<Query>({ sort: 'newest' });
const total = signal(0);
/** By position in the list; what is not there has not been asked for yet. */
const rows = signal<ReadonlyMap<number, Row>>(new Map());
const visible = signal({ first: 0, last: 20 });
const fault = signal('');

/** The last films, newest or most suspicious first. Only the rows in sight are in the document. */
export function Worklist() {
  const scroller = useRef<HTMLDivElement>(null);
  useSignalEffect(() => {
    // Looks again when the question changes, and when a film has come.
    const [asked] = [query.value, settled.value];
    const timer = setTimeout(() => void load(asked), REST_MS);
    return () => {
      clearTimeout(timer);
    };
  });
  useEffect(() => {
    const element = scroller.current;
    if (element === null) return undefined;
    const look = (): void => {
      const first = Math.max(0, Math.floor(element.scrollTop / ROW_HEIGHT) - MARGIN);
      const last = Math.ceil((element.scrollTop + element.clientHeight) / ROW_HEIGHT) + MARGIN;
      if (first === visible.value.first && last === visible.value.last) return;
      visible.value = { first, last };
      if (!hasAll()) void load(query.value);
    };
    const observer = new ResizeObserver(look);
    observer.observe(element);
    element.addEventListener('scroll', look, { passive: true });
    look();
    return () => {
      observer.disconnect();
      element.removeEventListener('scroll', look);
    };
  }, []);

  const { first, last } = visible.value;
  const shown = Array.from({ length: Math.max(0, Math.min(last, total.value) - first) }, (_, i) => first + i);
  return (
    <section class="worklist" aria-labelledby="films">
      <div class="toolbar">
        <h2 id="films">
          Films <small>{total.value.toLocaleString()}</small>
        </h2>
        <Filters />
      </div>
      <p role="alert">{fault}</p>
      <div class="scroller" ref={scroller} tabIndex={0} role="region" aria-label="List of films">
        <div role="table" aria-rowcount={total.value + 1} aria-labelledby="films" onKeyDown={moveFocus}>
          <div role="rowgroup" class="head">
            <div role="row" aria-rowindex={1} class="row">
              {['', 'File', 'Classes', 'Anomaly', 'Verdict', 'Time'].map((name) => (
                <span role="columnheader" key={name}>
                  {name === '' ? <span class="hidden">Film</span> : name}
                </span>
              ))}
            </div>
          </div>
          <div role="rowgroup" style={{ height: `${String(total.value * ROW_HEIGHT)}px` }} class="body">
            {shown.map((index) => (
              <FilmRow key={rows.value.get(index)?.id ?? index} index={index} row={rows.value.get(index)} />
            ))}
          </div>
        </div>
        {total.value === 0 && fault.value === '' && (
          <p class="empty">
            {query.value.text === undefined && query.value.outcome === undefined
              ? 'No films yet: drop one into the watched folder.'
              : 'No film fits.'}
          </p>
        )}
      </div>
    </section>
  );
}

function Filters() {
  const set = (change: Partial<Query>): void => {
    const { outcome, text, suspicious, ...rest } = { ...query.value, ...change };
    batch(() => {
      rows.value = new Map();
      query.value = {
        ...rest,
        ...(outcome !== undefined && { outcome }),
        ...(suspicious !== undefined && { suspicious }),
        ...(text !== undefined && text !== '' && { text }),
      };
    });
  };
  return (
    <form
      class="filters"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
      }}
    >
      <label>
        <span>Search</span>
        <input
          type="search"
          placeholder="file or id"
          value={query.value.text ?? ''}
          onInput={({ currentTarget }) => {
            set({ text: currentTarget.value });
          }}
        />
      </label>
      <label>
        <span>Order</span>
        <select
          value={query.value.sort}
          onChange={({ currentTarget }) => {
            set({ sort: currentTarget.value as Query['sort'] });
          }}
        >
          <option value="newest">newest first</option>
          <option value="suspicious">most suspicious first</option>
        </select>
      </label>
      <label>
        <span>Show</span>
        <select
          value={query.value.outcome ?? (query.value.suspicious === true ? 'suspicious' : 'all')}
          onChange={({ currentTarget: { value } }) => {
            const outcome = value === 'done' || value === 'failed' || value === 'skipped' ? value : undefined;
            set({ outcome, suspicious: value === 'suspicious' ? true : undefined } as Partial<Query>);
          }}
        >
          <option value="all">all</option>
          <option value="suspicious">suspicious</option>
          <option value="done">done</option>
          <option value="failed">failed</option>
          <option value="skipped">skipped</option>
        </select>
      </label>
    </form>
  );
}

function FilmRow({ index, row }: { readonly index: number; readonly row: Row | undefined }) {
  const style = { transform: `translateY(${String(index * ROW_HEIGHT)}px)` };
  if (row === undefined)
    return <div role="row" aria-rowindex={index + 2} class="row waiting" style={style} />;
  const results = Object.values(row.results);
  return (
    <div role="row" aria-rowindex={index + 2} class={`row ${row.outcome}`} style={style}>
      <span role="cell" class="thumbnail">
        {row.outcome === 'done' && (
          <img src={thumbnailUrl(row.id)} alt="" loading="lazy" width="52" height="52" />
        )}
      </span>
      <span role="cell" class="file">
        <a href={`#films/${row.id}`} title={row.file}>
          {row.file}
        </a>
        <small>{row.id.slice(0, 8)}</small>
      </span>
      <span role="cell">
        {results.filter(isClassification).map((result, i) => (
          <ClassBars key={i} result={result} />
        ))}
      </span>
      <span role="cell">
        {results.filter(isAnomaly).map((result, i) => (
          <Percentile key={i} result={result} />
        ))}
      </span>
      <span role="cell" class={row.outcome === 'failed' ? 'verdict bad' : 'verdict'}>
        {row.outcome === 'failed' && <ReplayButton id={row.id} />}
        <Suspicion row={row} />
        <span>{answersOf(row)}</span>
      </span>
      <span role="cell" class="time">
        <time dateTime={row.settledAt}>{timeOf(row.settledAt)}</time>
      </span>
    </div>
  );
}

/** Arrow keys go from film to film. */
function moveFocus(event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const links = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>('.file a')];
  const at = links.indexOf(document.activeElement as HTMLElement);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  const inOrder = links.sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top);
  inOrder[inOrder.indexOf(document.activeElement as HTMLElement) + step]?.focus();
}

function hasAll(): boolean {
  const { first, last } = visible.value;
  for (let index = first; index < Math.min(last, total.value); index++) {
    if (!rows.value.has(index)) return false;
  }
  return true;
}

/** The pages in sight. What has gone out of sight is forgotten: films that come move everything. */
async function load(asked: Query): Promise<void> {
  const { first, last } = visible.value;
  const offset = Math.floor(first / PAGE) * PAGE;
  const limit = Math.ceil((last - offset) / PAGE) * PAGE;
  try {
    const found = await search({ ...asked, offset, limit });
    if (asked !== query.value) return;
    batch(() => {
      fault.value = '';
      total.value = found.total;
      rows.value = new Map(found.films.map((row, i) => [offset + i, row]));
    });
  } catch (error) {
    fault.value = error instanceof Error ? error.message : String(error);
  }
}
