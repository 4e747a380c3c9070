import type { Film } from '../film.js';

/** Films with the same value in a column of the manifest. */
export interface FilmGroup {
  readonly column: string;
  readonly value: string;
  /** Indices of the films. */
  readonly films: readonly number[];
}

/** A column with more values does not define groups. */
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
