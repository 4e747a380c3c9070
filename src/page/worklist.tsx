import { signal, useSignal, useSignalEffect } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { allFailures, models, thumbnailUrl, type Query, type Row, type Sort } from './api.js';
import {
  ask,
  fault,
  hasAll,
  load,
  loaded,
  opened,
  query,
  recall,
  remember,
  ROW_HEIGHT,
  rows,
  total,
  visible,
} from './list.js';
import { ReplayButton } from './replay.js';
import {
  answersOf,
  ClassBars,
  FileName,
  isAnomaly,
  isClassification,
  Percentile,
  shownIn,
  Suspicion,
  timeOf,
} from './result.js';
import { refresh, settled, status } from './state.js';

/** Rows rendered outside the visible part, so that scrolling shows no gaps. */
const MARGIN = 8;
/** Films that arrive within this time cause one reload. */
const REST_MS = 250;
/** Rows do not move if the pointer has moved within this time. */
const HOLD_MS = 4000;

/** Films that have settled since the list was last read. */
const fresh = signal(0);
/** Whether the list is not read again at present, because the user has scrolled or moves the pointer over it. */
const held = signal(false);
/** Labels of the graph's models, for the filter. */
const labels = signal<readonly string[]>([]);

/** The list of films. Only visible rows are in the document. */
export function Worklist() {
  const scroller = useRef<HTMLDivElement>(null);
  const moved = useRef(-Infinity);
  useSignalEffect(recall);
  useSignalEffect(() => {
    const asked = query.value;
    const timer = setTimeout(() => void load(asked), REST_MS);
    fresh.value = 0;
    return () => {
      clearTimeout(timer);
    };
  });
  useSignalEffect(() => {
    if (settled.value === 0) return undefined;
    if (loaded.peek()) fresh.value = fresh.peek() + 1;
    let timer: ReturnType<typeof setTimeout> | undefined = undefined;
    const look = (): void => {
      const isAway = (scroller.current?.scrollTop ?? 0) > 0;
      const rest = moved.current + HOLD_MS - performance.now();
      held.value = isAway || rest > 0;
      if (isAway) return;
      if (rest > 0) {
        timer = setTimeout(look, rest);
        return;
      }
      fresh.value = 0;
      void load(query.peek());
    };
    timer = setTimeout(look, REST_MS);
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
    if (opened.value > 0) {
      // The space of the rows above is reserved before they are loaded.
      element.scrollTop = Math.max(0, opened.value * ROW_HEIGHT - element.clientHeight / 2);
    }
    look();
    void models().then(
      (found) => {
        labels.value = [...new Set(found.flatMap(({ bundle }) => bundle.labels))].sort();
      },
      () => undefined,
    );
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
        <h2 id="films">Films {loaded.value && <small>{total.value.toLocaleString()}</small>}</h2>
        <Filters />
        {query.value.outcome === 'failed' && total.value > 0 && <Failures />}
        {held.value && fresh.value > 0 && (
          <button
            type="button"
            class="fresh"
            onClick={() => {
              fresh.value = 0;
              scroller.current?.scrollTo({ top: 0 });
              void load(query.value);
            }}
          >
            {fresh.value} new
          </button>
        )}
      </div>
      <p role="alert">{fault}</p>
      <div
        class="scroller"
        ref={scroller}
        tabIndex={0}
        role="region"
        aria-label="List of films"
        onPointerMove={() => {
          moved.current = performance.now();
        }}
      >
        <div role="table" aria-rowcount={total.value + 1} aria-labelledby="films" onKeyDown={moveFocus}>
          <div role="rowgroup" class="head">
            <div role="row" aria-rowindex={1} class="row">
              <span role="columnheader">
                <span class="hidden">Film</span>
              </span>
              <Header name="File" sorts={['file']} />
              <span role="columnheader">Classes</span>
              <span role="columnheader">Anomaly</span>
              <Header name="Verdict" sorts={['suspicious', 'review']} />
              <Header name="Time" sorts={['newest', 'oldest']} />
            </div>
          </div>
          <div role="rowgroup" style={{ height: `${String(total.value * ROW_HEIGHT)}px` }} class="body">
            {shown.map((index) => (
              <FilmRow key={rows.value.get(index)?.id ?? index} index={index} row={rows.value.get(index)} />
            ))}
          </div>
        </div>
        {loaded.value && total.value === 0 && fault.value === '' && <Empty />}
      </div>
    </section>
  );
}

/** Names the watched folder, or says that no films match the filters. */
function Empty() {
  if (Object.keys(query.value).some((key) => key !== 'sort')) return <p class="empty">No films match.</p>;
  const folders = status.value?.folders ?? [];
  return (
    <p class="empty">
      No films yet: drop one into the watched folder
      {folders.length > 0 && (
        <>
          {' '}
          <code>{folders.join(', ')}</code>
        </>
      )}
      .
    </p>
  );
}

/** A header that sorts; each click takes the next of its orders. */
function Header({ name, sorts }: { readonly name: string; readonly sorts: readonly Sort[] }) {
  const at = sorts.indexOf(query.value.sort);
  const next = sorts[(at + 1) % sorts.length];
  const order = query.value.sort === 'oldest' || query.value.sort === 'file' ? 'ascending' : 'descending';
  return (
    <span role="columnheader" aria-sort={at < 0 ? 'none' : order}>
      <button
        type="button"
        class="sort"
        onClick={() => {
          ask({ sort: next });
        }}
      >
        {name} {at >= 0 && <span aria-hidden="true">{order === 'ascending' ? '▲' : '▼'}</span>}
      </button>
    </span>
  );
}

/** Buttons for all failed films. */
function Failures() {
  const said = useSignal('');
  const act = async (deed: 'replay' | 'discard'): Promise<void> => {
    if (
      deed === 'discard' &&
      !confirm('Discard the copies and reasons of all failed films? The originals stay.')
    )
      return;
    try {
      const { failures } = await allFailures(deed);
      said.value = `${String(failures.length)} ${deed === 'replay' ? 'sent again' : 'discarded'}`;
      refresh();
    } catch (error) {
      said.value = error instanceof Error ? error.message : String(error);
    }
  };
  return (
    <span class="failures">
      <button type="button" onClick={() => void act('replay')}>
        Replay all
      </button>
      <button type="button" onClick={() => void act('discard')}>
        Discard all
      </button>
      <span role="status">{said}</span>
    </span>
  );
}

const SHOWN: Readonly<Record<string, Partial<Query>>> = {
  all: {},
  suspicious: { suspicious: true },
  unreviewed: { reviewed: false, outcome: 'done' },
  reviewed: { reviewed: true },
  done: { outcome: 'done' },
  failed: { outcome: 'failed' },
  skipped: { outcome: 'skipped' },
};

function Filters() {
  const { text, sort, label, outcome, suspicious, reviewed } = query.value;
  const chosen =
    suspicious === true
      ? 'suspicious'
      : reviewed === true
        ? 'reviewed'
        : reviewed === false
          ? 'unreviewed'
          : (outcome ?? 'all');
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
          value={text ?? ''}
          onInput={({ currentTarget }) => {
            ask({ text: currentTarget.value });
          }}
        />
      </label>
      <label>
        <span>Order</span>
        <select
          value={sort}
          onChange={({ currentTarget }) => {
            ask({ sort: currentTarget.value });
          }}
        >
          <option value="newest">newest first</option>
          <option value="oldest">oldest first</option>
          <option value="suspicious">most suspicious first</option>
          <option value="review">most worth reviewing</option>
          <option value="file">by name</option>
        </select>
      </label>
      <label>
        <span>Show</span>
        <select
          value={chosen}
          onChange={({ currentTarget: { value } }) => {
            ask({ suspicious: undefined, reviewed: undefined, outcome: undefined, ...SHOWN[value] });
          }}
        >
          {Object.keys(SHOWN).map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
      {query.value.patient !== undefined && (
        <button
          type="button"
          onClick={() => {
            ask({ patient: undefined });
          }}
        >
          One patient ×
        </button>
      )}
      {labels.value.length > 0 && (
        <label>
          <span>Label</span>
          <select
            value={label ?? ''}
            onChange={({ currentTarget }) => {
              ask({ label: currentTarget.value });
            }}
          >
            <option value="">any label</option>
            {labels.value.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
      )}
    </form>
  );
}

function FilmRow({ index, row }: { readonly index: number; readonly row: Row | undefined }) {
  const style = { transform: `translateY(${String(index * ROW_HEIGHT)}px)` };
  if (row === undefined)
    return <div role="row" aria-rowindex={index + 2} class="row waiting" style={style} />;
  const results = shownIn(row.results);
  const isLast = opened.value === index && opened.value > 0;
  return (
    <div
      role="row"
      aria-rowindex={index + 2}
      class={`row ${row.outcome} ${isLast ? 'last' : ''}`}
      style={style}
    >
      <span role="cell" class="thumbnail">
        {row.outcome === 'done' && (
          <img src={thumbnailUrl(row.id)} alt="" loading="lazy" width="52" height="52" />
        )}
      </span>
      <span role="cell" class="file">
        <a
          href={`#films/${row.id}`}
          title={row.file}
          aria-label={row.file}
          onClick={() => {
            opened.value = index;
            remember();
          }}
        >
          <FileName name={row.file} />
        </a>
        <small>
          {row.id.slice(0, 8)}
          {row.review && ` · ${row.review.answer}${row.review.class === null ? '' : `: ${row.review.class}`}`}
        </small>
      </span>
      <span role="cell">
        {/* Bars of one classifier fill the row: what the others say is in the verdict. */}
        {results
          .filter(isClassification)
          .slice(0, 1)
          .map((result, i) => (
            <ClassBars key={i} result={result} />
          ))}
      </span>
      <span role="cell">
        {results.filter(isAnomaly).map((result, i) => (
          <Percentile key={i} result={result} />
        ))}
      </span>
      <span role="cell" class={row.outcome === 'failed' ? 'verdict bad' : 'verdict'}>
        {row.outcome === 'failed' && row.discarded !== true && (
          // A film that has failed again can be sent again.
          <ReplayButton key={row.settledAt} id={row.id} />
        )}
        <Suspicion row={row} />
        <span>{answersOf(row)}</span>
      </span>
      <span role="cell" class="time">
        <time dateTime={row.settledAt}>{timeOf(row.settledAt)}</time>
      </span>
    </div>
  );
}

/** Arrow keys, J and K go from film to film. */
function moveFocus(event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
  const links = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>('.file a')];
  const at = links.indexOf(document.activeElement as HTMLElement);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  const inOrder = links.sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top);
  inOrder[inOrder.indexOf(document.activeElement as HTMLElement) + step]?.focus();
}
