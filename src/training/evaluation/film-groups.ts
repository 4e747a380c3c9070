import type { Film } from '../film.js';

/** Films that a column of the manifest says the same of. */
export interface FilmGroup {
  readonly column: string;
  readonly value: string;
  /** Indices of the films. */
  readonly films: readonly number[];
}

/** More values than this name films, not groups of them. */
const MOST_VALUES = 12;
/** Bounds of the age groups, in years. */
const AGES = [2, 6, 18, 40, 60, 80];

/** Groups by each column that has a few values (source, view, sex, …), and by age. */
export function filmGroups(films: readonly Film[]): FilmGroup[] {
  const columns = [...new Set(films.flatMap((film) => Object.keys(film.details ?? {})))];
  return columns.flatMap((column) => {
    const valueOf = (film: Film): string => {
      const value = film.details?.[column] ?? '';
      return column.toLowerCase() === 'age' ? ageGroup(value) : value;
    };
    const groups = new Map<string, number[]>();
    films.forEach((film, i) => {
      const value = valueOf(film);
      if (value !== '') groups.set(value, [...(groups.get(value) ?? []), i]);
    });
    if (groups.size < 2 || groups.size > MOST_VALUES) return [];
    return [...groups]
      .sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))
      .map(([value, members]) => ({ column, value, films: members }));
  });
}

function ageGroup(value: string): string {
  const age = Number.parseFloat(value);
  if (Number.isNaN(age)) return '';
  const above = AGES.findIndex((bound) => age < bound);
  if (above === 0) return `under ${AGES[0] ?? ''}`;
  if (above < 0) return `${AGES.at(-1) ?? ''} and more`;
  return `${AGES[above - 1] ?? ''}–${(AGES[above] ?? 0) - 1}`;
}
