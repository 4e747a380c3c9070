import { batch, signal } from '@preact/signals';
import { search, type Query, type Row, type Sort } from './api.js';
import { place } from './state.js';

/** Pixels, as in style.css. */
export const ROW_HEIGHT = 64;
const PAGE = 100;

const SORTS: readonly string[] = [
  'newest',
  'oldest',
  'suspicious',
  'file',
  'review',
] satisfies readonly Sort[];

/**
 * Filters and order of the worklist. They are part of the address, except for the search text, which may name people.
 */
export const query = signal<Query>(queryOf(place.value, historyText() ?? ''));
export const total = signal(0);
/** Whether the list has been read once. */
export const loaded = signal(false);
/** By position in the list; missing ones have not been loaded yet. */
export const rows = signal<ReadonlyMap<number, Row>>(new Map());
export const visible = signal({ first: 0, last: 20 });
export const fault = signal('');
/** The row that was opened last: the list returns to it. */
export const opened = signal(positionOf(place.value));

/** Changes filters or order, and shows the top of the list. */
export function ask(change: Partial<Record<keyof Query, unknown>>): void {
  const asked = { ...query.value, ...change } as Record<string, unknown>;
  const kept = Object.entries(asked).filter(([, value]) => value !== undefined && value !== '');
  batch(() => {
    rows.value = new Map();
    opened.value = 0;
    query.value = Object.fromEntries(kept) as unknown as Query;
  });
  remember();
}

/** Writes filters, order and position into the address, so that back, reload and bookmarks restore them. */
export function remember(): void {
  if (!place.value.startsWith('films') || place.value.startsWith('films/')) return;
  const { text = '', ...rest } = query.value;
  const parts = new URLSearchParams();
  for (const [key, value] of Object.entries(rest)) if (value !== 'newest') parts.set(key, String(value));
  if (opened.value > 0) parts.set('at', String(opened.value));
  const address = parts.size === 0 ? 'films' : `films?${parts.toString()}`;
  history.replaceState({ text }, '', `#${address}`);
  place.value = address;
}

/** Reads filters and order from the address after the user has changed it or gone back. */
export function recall(): void {
  if (!place.value.startsWith('films?') && place.value !== 'films') return;
  const asked = queryOf(place.value, historyText() ?? query.peek().text ?? '');
  if (JSON.stringify(asked) === JSON.stringify(query.peek())) return;
  batch(() => {
    rows.value = new Map();
    query.value = asked;
    opened.value = positionOf(place.value);
  });
}

function queryOf(address: string, text: string): Query {
  const parts = new URLSearchParams(address.split('?')[1] ?? '');
  const sort = parts.get('sort') ?? '';
  const flag = (key: string): boolean | undefined => (parts.has(key) ? parts.get(key) === 'true' : undefined);
  const asked = {
    sort: SORTS.includes(sort) ? sort : 'newest',
    outcome: parts.get('outcome') ?? undefined,
    label: parts.get('label') ?? undefined,
    patient: parts.get('patient') ?? undefined,
    suspicious: flag('suspicious'),
    reviewed: flag('reviewed'),
    text: text === '' ? undefined : text,
  };
  return Object.fromEntries(
    Object.entries(asked).filter(([, value]) => value !== undefined),
  ) as unknown as Query;
}

function positionOf(address: string): number {
  return Number(new URLSearchParams(address.split('?')[1] ?? '').get('at') ?? 0) || 0;
}

/** The search text of this entry of the browser's history. */
function historyText(): string | undefined {
  const { text } = (history.state ?? {}) as { text?: unknown };
  return typeof text === 'string' ? text : undefined;
}

/** The film before or after the one at `position`, with its position; undefined at the ends of the list. */
export async function neighbour(position: number, step: 1 | -1): Promise<Row | undefined> {
  const offset = position + step;
  if (offset < 0) return undefined;
  const known = rows.value.get(offset);
  if (known !== undefined) return known;
  const found = await search({ ...query.value, offset, limit: 1 });
  return found.films[0];
}

export function hasAll(): boolean {
  const { first, last } = visible.value;
  for (let index = first; index < Math.min(last, total.value); index++) {
    if (!rows.value.has(index)) return false;
  }
  return true;
}

/** Loads the visible pages and drops the others: new films move every row. */
export async function load(asked: Query): Promise<void> {
  const { first, last } = visible.value;
  const offset = Math.floor(first / PAGE) * PAGE;
  const limit = Math.ceil((last - offset) / PAGE) * PAGE;
  try {
    const found = await search({ ...asked, offset, limit });
    if (asked !== query.value) return;
    batch(() => {
      fault.value = '';
      loaded.value = true;
      total.value = found.total;
      rows.value = new Map(found.films.map((row, i) => [offset + i, row]));
    });
  } catch (error) {
    fault.value = error instanceof Error ? error.message : String(error);
  }
}
