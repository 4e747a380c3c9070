import { distance } from 'fastest-levenshtein';

/** `, did you mean \`clahe\`?` for the nearest of `known`, or an empty string when none is near. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const near = nearest(word, known);
  return near === undefined ? '' : `, did you mean \`${near}\`?`;
}

/** The one of `known` with the fewest edits from `word`, if they are at most a third of its letters (or two). */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let fewest = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const [a, b] = [word.toLowerCase(), candidate.toLowerCase()];
    // swapped letters count as one edit
    const edits = letters(a) === letters(b) ? 1 : distance(a, b);
    // Of two that are as near, the one that the word begins.
    const isNearer = edits < fewest || (edits === fewest && best !== undefined && b.startsWith(a));
    if (isNearer && edits < candidate.length) [best, fewest] = [candidate, edits];
  }
  return best;
}

function letters(word: string): string {
  return Array.from(word).sort().join('');
}
