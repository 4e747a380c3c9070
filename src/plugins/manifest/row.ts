import { RxrayError } from '../../core/errors.js';
import { cells, type Line } from './lines.js';

/** A film of the list. */
export interface Row {
  /** A path, relative to the list or absolute, or an `https:` or `s3:` address. */
  readonly path: string;
  /** In bytes. */
  readonly size?: number | undefined;
  readonly mtimeMs?: number | undefined;
}

/** S3 Inventory's names for some columns. */
const ALIASES: Readonly<Record<string, string>> = {
  lastmodifieddate: 'lastmodified',
  url: 'path',
  file: 'path',
};

/**
 * Returns a reader of rows with these columns. It returns undefined for old versions of objects, and throws for faulty
 * lines. Throws CONFIG_CREATE if no column has the film's path.
 */
export function rowReader(
  columns: readonly string[],
  delimiter: string,
  file: string,
): (line: Line) => Row | undefined {
  const places = new Map(
    columns.map((name, index) => {
      const plain = name.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
      return [ALIASES[plain] ?? plain, index] as const;
    }),
  );
  if (!places.has('path') && !(places.has('bucket') && places.has('key'))) {
    throw new RxrayError(
      'CONFIG_CREATE',
      `${file}: expected a column \`path\`, or \`bucket\` and \`key\`, got ${columns.join(', ')}`,
    );
  }
  return (line) => {
    const row = cells(line.text, delimiter);
    // Some programs end every line with a separator.
    while (row.length > columns.length && row.at(-1) === '') row.pop();
    if (row.length !== columns.length) {
      throw new Error(`expected ${String(columns.length)} columns, got ${String(row.length)}`);
    }
    const cell = (name: string): string => row[places.get(name) ?? -1] ?? '';
    if (cell('islatest') === 'false' || cell('isdeletemarker') === 'true') return undefined;
    const path = places.has('path') ? cell('path') : `s3://${cell('bucket')}/${decoded(cell('key'))}`;
    if (path === '' || path.endsWith('/'))
      throw new Error('expected the path of a film, got nothing, or a folder');
    return { path, size: numberOf(cell('size')), mtimeMs: numberOf(cell('lastmodified'), Date.parse) };
  };
}

/** S3 Inventory encodes keys like the fields of a form. */
function decoded(key: string): string {
  return decodeURIComponent(key.replaceAll('+', ' '));
}

function numberOf(text: string, read: (text: string) => number = Number): number | undefined {
  if (text === '') return undefined;
  const value = read(text);
  if (!Number.isFinite(value) || value < 0) throw new Error(`expected a number or a time, got "${text}"`);
  return value;
}
