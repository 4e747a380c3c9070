import { pipeline } from 'node:stream/promises';
import { parse } from 'csv-parse';
import { stringify } from 'csv-stringify/sync';
import { z } from 'zod';
import { RxrayError } from '../core/errors.js';
import { expressionFault } from '../core/expression.js';
import { valueAt } from '../core/value-at.js';
import type { Frame } from '../core/frame.js';
import { defineSink, type LintMessage, type SinkInstance, type SinkServices } from '../core/plugin.js';
import { CommittedFile, filesOf, type RowFormat, rotation } from './committed-file.js';
import { withoutImages } from './plain.js';
import { rowSink } from './row-sink.js';

const column = z.union([
  z.string().min(1),
  z.strictObject({
    name: z.string().min(1).describe('What stands in the header.'),
    value: z
      .string()
      .min(1)
      .describe('An expression (CEL) over `file`, `id`, `origin`, `meta` and `results`.'),
  }),
]);

const options = z
  .strictObject({
    path: z.string().min(1).describe('The file. Its folder is made when it is missing.'),
    columns: z
      .array(column)
      .min(1)
      .optional()
      .describe(
        'What to write, in order: `file`, `id`, `receivedAt`, `completedAt`, `<stage>.<column>`, a path such as ' +
          '`meta.modality` or `results.classes.label`, or `{ name, value }` with an expression. By default the first ' +
          'four and then every column of every stage.',
      ),
    delimiter: z
      .string()
      .regex(/^[^"'\r\n]$/, 'Expected one character, neither a quote nor a line end')
      .optional()
      .describe("What stands between two cells. Default: `,`, or `;` with `decimal: ','`."),
    decimal: z
      .enum(['.', ','])
      .default('.')
      .describe('What stands before the decimals of a number. German and French Excel expect `,`.'),
    bom: z
      .boolean()
      .default(false)
      .describe('Begin with a byte order mark, so that Excel reads names with accents right.'),
    rotate: rotation,
  })
  .refine(({ delimiter, decimal }) => delimiter !== decimal, {
    path: ['delimiter'],
    message: 'must not be the same as `decimal`, or numbers would fall apart',
  });
type CsvOptions = z.output<typeof options>;

export default defineSink({
  name: 'csv',
  summary: 'Writes one row per film into a CSV file (RFC 4180), each exactly once.',
  options,
  examples: [
    { title: 'Everything that the stages found', with: { path: './out/results.csv' } },
    {
      title: 'Chosen columns, for a German Excel',
      with: {
        path: './out/results.csv',
        columns: ['file', 'classes.label', { name: 'suspect', value: 'results.anomaly.percentile > 95.0' }],
        decimal: ',',
        bom: true,
      },
    },
  ],
  // A group costs two syncs however long it is.
  maxBatch: 256,
  output: 'path',
  writes: ({ path }) => filesOf(path),
  lint: ({ columns = [] }) =>
    columns.flatMap((entry, index): LintMessage[] => {
      const message = typeof entry === 'string' ? undefined : expressionFault(entry.value);
      const option = ['columns', String(index), 'value'];
      return message === undefined ? [] : [{ severity: 'error', code: 'CONFIG_EXPRESSION', option, message }];
    }),
  create: csvSink,
});

interface CsvColumn {
  readonly name: string;
  readonly value: (frame: Frame) => unknown;
}

async function csvSink(settings: CsvOptions, services: SinkServices): Promise<SinkInstance> {
  const columns = columnsOf(settings, services);
  const names = columns.map(({ name }) => name);
  // csv-stringify quotes the record delimiter alone, but a lone CR or LF ends a record for many readers.
  const { decimal, delimiter = decimal === ',' ? ';' : ',' } = settings;
  const format = { delimiter, record_delimiter: '\r\n', quoted_match: /[\r\n]/ };
  const file = await CommittedFile.open({
    path: services.resolve(settings.path),
    stateDir: services.stateDir,
    format: csvFormat(
      names,
      (settings.bom ? '\uFEFF' : '') + stringify([names], format),
      delimiter,
      columns.findIndex((entry) => entry.value === BUILT_IN.id),
    ),
    rotate: settings.rotate,
    setAside: services.again,
    log: services.log,
  });

  return rowSink({
    name: 'csv',
    id: services.id,
    path: settings.path,
    file,
    rowOf: (frame) =>
      stringify([columns.map(({ value }) => cell(value(frame)))], {
        ...format,
        escape_formulas: true,
        cast: { number: (value) => String(value).replace('.', decimal) },
      }),
  });
}

/** `idColumn`: which column holds the frame id, or -1. */
function csvFormat(names: readonly string[], header: string, delimiter: string, idColumn: number): RowFormat {
  return {
    name: 'csv',
    header,
    holdsIds: idColumn !== -1,
    scan: (bytes, found) =>
      pipeline(
        bytes,
        parse({ delimiter, bom: true, record_delimiter: '\r\n', relax_column_count: true }),
        async (records: AsyncIterable<readonly string[]>) => {
          let isHeader = true;
          for await (const record of records) {
            if (isHeader) checkHeader(names, record);
            else if (idColumn !== -1) found(record[idColumn] ?? '');
            isHeader = false;
          }
        },
      ),
  };
}

function checkHeader(expected: readonly string[], found: readonly string[]): void {
  if (found.length === expected.length && found.every((name, i) => name === expected[i])) return;
  throw new Error(`its columns are ${found.join(', ')}; expected ${expected.join(', ')}`);
}

const BUILT_IN: Readonly<Record<string, CsvColumn['value']>> = {
  file: (frame) => frame.origin.name,
  id: (frame) => frame.id,
  receivedAt: (frame) => frame.origin.receivedAt,
  completedAt: (frame) => frame.completedAt,
};

function columnsOf(settings: CsvOptions, services: SinkServices): CsvColumn[] {
  const offered = new Map<string, CsvColumn['value']>(Object.entries(BUILT_IN));
  for (const { stage, column } of services.columns) {
    offered.set(`${stage}.${column.name}`, (frame) => valueAt(frame.results[stage], column.path));
  }
  return (settings.columns ?? [...offered.keys()]).map((entry) => {
    if (typeof entry !== 'string') return { name: entry.name, value: services.expression(entry.value) };
    const value = offered.get(entry) ?? pathColumn(entry);
    if (value === undefined) {
      throw new RxrayError(
        'CONFIG_CREATE',
        `columns: there is no column "${entry}". Expected one of ${[...offered.keys()].join(', ')}, ` +
          'a path that begins with `meta.` or `results.`, or { name, value }',
        { component: services.id },
      );
    }
    return { name: entry, value };
  });
}

function pathColumn(text: string): CsvColumn['value'] | undefined {
  const [root, ...path] = text.split('.');
  if ((root !== 'meta' && root !== 'results') || path.length === 0 || path.includes('')) return undefined;
  return (frame) => valueAt(frame[root], path);
}

/** Numbers in their shortest form that reads back as the same number; what is missing is empty. */
function cell(value: unknown): string | number {
  if (value === undefined || value === null) return '';
  if (typeof value === 'string' || typeof value === 'number') return value;
  if (typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  if (value instanceof Date) return value.toISOString();
  return JSON.stringify(withoutImages(value));
}
