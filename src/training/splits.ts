import { seededRandom, shuffled } from '../models/random.js';
import type { Film, Split } from './film.js';
import type { Pair } from './near-duplicates.js';

type Unsplit = Omit<Film, 'split'>;

/**
 * Draws `val`, class by class, whole groups at a time: films of one patient, and films that show the same,
 * stay together.
 *
 * @param share Of the films of each class.
 */
export function drawSplit(
  films: readonly Unsplit[],
  copies: readonly Pair[],
  share: number,
  seed: number,
): Film[] {
  const groups = groupsOf(films, copies);
  const validation = new Set<number>();
  for (const name of [...new Set(films.map((film) => film.class))].sort()) {
    const mine = groups.filter((_, i) => films[i]?.class === name);
    const candidates = [...new Set(mine)].sort((a, b) => byName(films[a]?.patient, films[b]?.patient));
    const wanted = Math.round(mine.length * share);
    let taken = mine.filter((group) => validation.has(group)).length;
    for (const i of shuffled(candidates.length, seededRandom(seed))) {
      if (taken >= wanted) break;
      const group = candidates[i] ?? -1;
      if (validation.has(group)) continue;
      validation.add(group);
      taken += mine.filter((each) => each === group).length;
    }
  }
  return films.map((film, i) => ({ ...film, split: validation.has(groups[i] ?? -1) ? 'val' : 'train' }));
}

/** Training films that show the same as a film which must be judged unseen: they are the ones to leave out. */
export function leaksInto(films: readonly Film[], copies: readonly Pair[]): Set<Film> {
  const leaks = new Set<Film>();
  for (const [a, b] of copies.map((pair) => pair.map((i) => films[i]))) {
    if (a === undefined || b === undefined || a.split === b.split) continue;
    if (a.split === 'train') leaks.add(a);
    if (b.split === 'train') leaks.add(b);
  }
  return leaks;
}

/** Patients with films in more than one split. */
export function straddling(films: readonly Film[]): string[] {
  const splits = new Map<string, Split>();
  const found = new Set<string>();
  for (const { patient, split } of films) {
    if ((splits.get(patient) ?? split) !== split) found.add(patient);
    splits.set(patient, split);
  }
  return [...found];
}

function byName(a = '', b = ''): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A number for every film, the same for films that belong together (disjoint sets). */
function groupsOf(films: readonly Unsplit[], copies: readonly Pair[]): number[] {
  const parent = films.map((_, i) => i);
  const root = (i: number): number => {
    let at = i;
    while (parent[at] !== at) at = parent[at] ?? at;
    return at;
  };
  const join = (a: number, b: number): void => {
    const [first, second] = [root(a), root(b)].sort((x, y) => x - y);
    if (first !== undefined && second !== undefined) parent[second] = first;
  };
  const firstOf = new Map<string, number>();
  films.forEach(({ patient }, i) => {
    const first = firstOf.get(patient);
    if (first === undefined) firstOf.set(patient, i);
    else join(first, i);
  });
  for (const [a, b] of copies) join(a, b);
  return films.map((_, i) => root(i));
}
