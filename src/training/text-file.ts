import { CsvError, parse } from 'csv-parse/sync';
import { delimiterOf, namedDelimiter } from '../core/delimiter.js';
import { readAtMost } from '../core/files.js';

const MAX_BYTES = 256 * 1024 * 1024;

/**
 * The text of a file as people's programs write it: UTF-8 with or without a byte order mark, or UTF-16 of either byte
 * order (Excel's "Unicode text"), also without its mark. Throws where the bytes are none of these, or more than 256 MiB.
 */
export async function readText(path: string): Promise<string> {
  return decodeText(await readAtMost(path, MAX_BYTES));
}

export function decodeText(bytes: Uint8Array): string {
  const encoding = encodingOf(bytes);
  try {
    // The decoder removes the byte order mark.
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Error(`it is not ${encoding.toUpperCase()} text: save it as UTF-8`, { cause });
  }
}

function encodingOf(bytes: Uint8Array): 'utf-8' | 'utf-16le' | 'utf-16be' {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return 'utf-16le';
  if (first === 0xfe && second === 0xff) return 'utf-16be';
  // Text has no zero bytes in UTF-8; in UTF-16 every other byte of a Latin letter is zero.
  if (bytes.length >= 2 && second === 0 && first !== 0) return 'utf-16le';
  if (bytes.length >= 2 && first === 0 && second !== 0) return 'utf-16be';
  return 'utf-8';
}

/**
 * One name for one thing: composed Unicode (macOS writes file names decomposed), without blanks and invisible characters
 * around it, and with single blanks in it.
 */
export function tidy(name: string): string {
  return name
    .normalize('NFC')
    .replace(/^[\s\p{Cf}]+|[\s\p{Cf}]+$/gu, '')
    .replace(/\s+/g, ' ');
}

/** Cells without empty ones at the end, but at least so many. */
function withoutEmptyEnd(cells: readonly string[], least: number): readonly string[] {
  let length = cells.length;
  while (length > least && cells[length - 1] === '') length -= 1;
  return cells.slice(0, length);
}

/** One row of a table. */
export interface TableRow {
  /** By the names of the header; an empty cell is ''. */
  readonly record: Readonly<Record<string, string>>;
  /** Counted from 1. */
  readonly line: number;
}

/**
 * The rows of a table (CSV) with a header as people's programs write it: with commas, semicolons or tabs, or the separator of
 * a first line `sep=;`, and perhaps one more at the end of a line. `decimal`: a comma where another sign separates cells.
 * Throws what is wrong with it, with the line.
 */
export function parseTable(text: string): { rows: TableRow[]; decimal: '.' | ',' } {
  const named = namedDelimiter(text);
  const delimiter = named ?? delimiterOf(text);
  const parsed: { record: string[]; lines: number }[] = [];
  try {
    parse(text, {
      ...{ delimiter, from_line: named === undefined ? 1 : 2, bom: true, trim: true },
      ...{ relax_column_count: true, skip_empty_lines: true, skip_records_with_empty_values: true },
      on_record: (record, { lines }) => {
        parsed.push({ record, lines });
        return null;
      },
    });
  } catch (cause) {
    if (!(cause instanceof CsvError) || cause.code !== 'CSV_QUOTE_NOT_CLOSED') throw cause;
    const line = (parsed.at(-1)?.lines ?? 0) + 1;
    throw new Error(`a quote that opens in line ${line} is not closed`, { cause });
  }
  const [names = [], ...rest] = parsed.map(({ record }) => record);
  const header = withoutEmptyEnd(names.map(tidy), 0);
  const double = header.find((name, i) => name !== '' && header.indexOf(name) < i);
  if (double !== undefined) throw new Error(`two columns have the name "${double}"`);
  const rows = rest.map((cells, i): TableRow => {
    const line = parsed[i + 1]?.lines ?? 0;
    const row = withoutEmptyEnd(cells, header.length);
    if (row.length !== header.length) {
      throw new Error(`line ${line} has ${row.length} cells, expected ${header.length}`);
    }
    return { record: Object.fromEntries(header.map((name, c) => [name, row[c] ?? ''])), line };
  });
  return { rows, decimal: delimiter === ',' ? '.' : ',' };
}
