import { batch, signal } from '@preact/signals';
import { search, type Query, type Row, type Sort } from './api.js';
import { place } from './state.js';

/** Pixels: CSS knows the same number. */
export const ROW_HEIGHT = 64;
const PAGE = 100;

const SORTS: readonly string[] = [
  'newest',
  'oldest',
  'suspicious',
  'file',
  'review',
] satisfies readonly Sort[];

/** What the worklist shows: in the address, but for the text that is searched for, which may name people. */
export const query = signal<Query>(queryOf(place.value, historyText() ?? ''));
export const total = signal(0);
/** By position in the list; what is not there has not been asked for yet. */
export const rows = signal<ReadonlyMap<number, Row>>(new Map());
export const visible = signal({ first: 0, last: 20 });
export const fault = signal('');
/** The row that was opened last: the list comes back to it. */
export const opened = signal(positionOf(place.value));

/** Another question: the list begins at its top. */
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

/** Keeps the question and the position in the address, so that back, reload and a bookmark return to them. */
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

/** Takes the question of the address over, when it was changed by hand or by going back. */
export function recall(): void {
  if (!place.value.startsWith('films?') && place.value !== 'films') return;
  const asked = queryOf(place.value, historyText() ?? query.value.text ?? '');
  if (JSON.stringify(asked) === JSON.stringify(query.value)) return;
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

/** What was searched for when this entry of the history was left. */
function historyText(): string | undefined {
  const { text } = (history.state ?? {}) as { text?: unknown };
  return typeof text === 'string' ? text : undefined;
}

/** The film beside the one at `position` in the list, and where it is; undefined at the ends. */
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

/** The pages in sight. What has gone out of sight is forgotten: films that come move everything. */
export async function load(asked: Query): Promise<void> {
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
