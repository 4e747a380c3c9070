import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { parse } from 'csv-parse/sync';
import { delimiterOf, namedDelimiter } from '../../core/delimiter.js';
import { messageOf, RxrayError } from '../../core/errors.js';
import type { Part } from '../../core/part.js';

/** Maximum length of a line. */
const MAX_LINE = 64 * 1024;
const NEWLINE = 0x0a;

/** One line of the list. */
export interface Line {
  readonly text: string;
  /** Its position: `line 7`, or `byte 4711` if the lines before it were not read. */
  readonly place: string;
}

/** What is before the first film. */
export interface Head {
  /** What the header names; empty without one. */
  readonly columns: readonly string[];
  readonly delimiter: string;
  /** Where the first film begins, in bytes. */
  readonly end: number;
}

/** Reads the header, if there is one, and a line such as `sep=;` before it. Throws CONFIG_CREATE. */
export async function headOf(file: string, hasHeader: boolean): Promise<Head> {
  let named: string | undefined;
  for await (const { bytes, at } of split(open(file, 0), file)) {
    const [first, second] = bytes;
    if (at === 0 && (isMark(first, second) || (first === 0) !== (second === 0))) {
      throw new RxrayError('CONFIG_CREATE', `${file} is UTF-16 text: save it as UTF-8`);
    }
    const line = text(bytes);
    const end = at + bytes.length + 1;
    if (at === 0) named = namedDelimiter(line);
    if (at === 0 && named !== undefined) continue;
    if (!hasHeader) return { columns: [], delimiter: named ?? ',', end: at };
    const delimiter = named ?? delimiterOf(line);
    const columns = cells(line, delimiter);
    while (columns.at(-1)?.trim() === '') columns.pop();
    return { columns, delimiter, end };
  }
  if (!hasHeader) return { columns: [], delimiter: ',', end: 0 };
  throw new RxrayError('CONFIG_CREATE', `${file} is empty: expected a header, and one film per line`);
}

/** Whether these are UTF-16's byte order mark. */
function isMark(first = 0, second = 0): boolean {
  return (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
}

/** The cells of one line (RFC 4180). Throws for unmatched quotes: cells must not contain line breaks. */
export function cells(line: string, delimiter: string): string[] {
  // Nearly all lines; the parser costs 20 times as much.
  if (!line.includes('"')) return line.split(delimiter);
  const [row = []] = parse(line, { delimiter, relax_column_count: true });
  return row;
}

/**
 * The lines of a list that are not blank, or those of one part: each line is in exactly one part. A part of a plain
 * file reads only its share of the bytes, and takes the lines that begin there. A compressed file is read from its
 * beginning, and a part takes every `count`th line.
 */
export async function* linesOf(
  file: string,
  { part, head }: { part?: Part | undefined; head: Head },
): AsyncGenerator<Line> {
  const { index, count } = part ?? { index: 0, count: 1 };
  const isCompressed = file.endsWith('.gz');
  const { size } = await stat(file);
  const [begin, end] = isCompressed
    ? [0, Infinity]
    : [Math.floor((size * index) / count), Math.floor((size * (index + 1)) / count)];
  // One byte earlier, to see whether a line begins exactly there.
  const start = Math.max(0, begin - 1);
  let number = 0;
  for await (const { bytes, at } of split(open(file, start), file)) {
    const offset = start + at;
    if (offset >= end) return;
    number += 1;
    if (offset < begin || offset < head.end) continue;
    if (isCompressed && number % count !== index) continue;
    const line = text(bytes);
    const place = begin === 0 ? `line ${String(number)}` : `byte ${String(offset)}`;
    if (line.trim() !== '') yield { text: line, place };
  }
}

function open(file: string, start: number): Readable {
  const bytes = createReadStream(file, { start });
  if (!file.endsWith('.gz')) return bytes;
  const unpacked = createGunzip();
  bytes.on('error', (error) => unpacked.destroy(error));
  return bytes.pipe(unpacked);
}

/** Splits a stream into lines; `at`: the offset of the line. */
async function* split(stream: Readable, file: string): AsyncGenerator<{ bytes: Buffer; at: number }> {
  let rest: Buffer = Buffer.alloc(0);
  let at = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let from = 0;
      for (let to = bytes.indexOf(NEWLINE); to !== -1; to = bytes.indexOf(NEWLINE, from)) {
        yield { bytes: bytes.subarray(from, to), at };
        at += to + 1 - from;
        from = to + 1;
      }
      rest = bytes.subarray(from);
      if (rest.length > MAX_LINE)
        throw new Error(`the line at byte ${String(at)} is longer than ${String(MAX_LINE)} bytes`);
    }
  } catch (cause) {
    throw new RxrayError('CONFIG_CREATE', `the list ${file} cannot be read: ${messageOf(cause)}`, { cause });
  } finally {
    stream.destroy();
  }
  if (rest.length > 0) yield { bytes: rest, at };
}

function text(bytes: Buffer): string {
  return bytes
    .toString('utf8')
    .replace(/^\uFEFF/, '')
    .replace(/\r$/, '');
}
