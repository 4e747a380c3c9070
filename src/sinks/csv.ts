import { pipeline } from 'node:stream/promises';
import { parse } from 'csv-parse';
import { stringify } from 'csv-stringify/sync';
import { z } from 'zod';
import { RxrayError } from '../core/errors.js';
import { expressionFault } from '../core/expression.js';
import { valueAt } from '../core/value-at.js';
import { didYouMean } from '../core/suggest.js';
import type { Frame } from '../core/frame.js';
import {
  defineSink,
  type LintContext,
  type LintMessage,
  type SinkInstance,
  type SinkServices,
} from '../core/plugin.js';
import { verdictOf } from '../core/verdict.js';
import { CommittedFile, filesOf, OtherColumns, type RowFormat, rotation } from './committed-file.js';
import { isJudged, withoutImages } from './plain.js';
import { rowSink } from './row-sink.js';

const column = z.union([
  z.string().min(1),
  z.strictObject({
    name: z.string().min(1).describe('Name in the header.'),
    value: z
      .string()
      .min(1)
      .describe('An expression (CEL) over `file`, `id`, `origin`, `meta`, `results` and `verdict`.'),
  }),
]);

const options = z
  .strictObject({
    path: z.string().min(1).describe('The file. A missing folder is created.'),
    columns: z
      .array(column)
      .min(1)
      .optional()
      .describe(
        'What to write, in order: `file`, `id`, `receivedAt`, `completedAt`, `suspicious`, `suspicion`, `<stage>.<column>`, ' +
          'a path such as `meta.modality` or `results.classes.label`, or `{ name, value }` with an expression. By default ' +
          'the first four, `suspicious` and `suspicion` where a model judges the films, and the usual columns of every stage.',
      ),
    delimiter: z
      .string()
      .regex(/^[^"'\r\n]$/, 'Expected one character, neither a quote nor a line end')
      .optional()
      .describe("Separator of cells. Default: `,`, or `;` with `decimal: ','`."),
    decimal: z
      .enum(['.', ','])
      .default('.')
      .describe('Decimal separator. German and French Excel expect `,`.'),
    bom: z
      .boolean()
      .default(false)
      .describe('Write a byte order mark, so that Excel reads accents correctly.'),
    rotate: rotation,
  })
  .refine(({ delimiter, decimal }) => delimiter !== decimal, {
    path: ['delimiter'],
    message: 'must not be the same as `decimal`',
  });
type CsvOptions = z.output<typeof options>;

export default defineSink({
  name: 'csv',
  summary: 'Writes one row per film into a CSV file (RFC 4180), each exactly once.',
  options,
  examples: [
    { title: 'All results', with: { path: './out/results.csv' } },
    {
      title: 'Chosen columns, for a German Excel',
      with: {
        path: './out/results.csv',
        columns: [
          'file',
          'suspicious',
          'classes.label',
          { name: 'anomalous', value: 'results.anomaly.abnormal' },
        ],
        decimal: ',',
        bom: true,
      },
    },
  ],
  // A group costs two syncs, whatever its length.
  maxBatch: 256,
  output: 'path',
  writes: ({ path }) => filesOf(path),
  lint: async ({ columns = [] }, context) => {
    const stages = columns.length === 0 ? undefined : await context.columns?.();
    return columns.flatMap((entry, index) => lintColumn(entry, String(index), stages));
  },
  create: csvSink,
});

interface CsvColumn {
  readonly name: string;
  readonly value: (frame: Frame) => unknown;
}

function lintColumn(
  entry: z.output<typeof column>,
  index: string,
  stages: Awaited<ReturnType<NonNullable<LintContext['columns']>>> | undefined,
): LintMessage[] {
  if (typeof entry !== 'string') {
    const message = expressionFault(entry.value);
    const option = ['columns', index, 'value'];
    return message === undefined ? [] : [{ severity: 'error', code: 'CONFIG_EXPRESSION', option, message }];
  }
  if (stages === undefined || Object.hasOwn(BUILT_IN, entry) || pathColumn(entry) !== undefined) return [];
  // Columns of a user's plugin are known when the graph is created.
  const isOpen = stages.some(({ stage, columns }) => columns === undefined && entry.startsWith(`${stage}.`));
  const offered = stages.flatMap(({ stage, columns = [] }) => columns.map(({ name }) => `${stage}.${name}`));
  if (isOpen || offered.includes(entry)) return [];
  const message = unknownColumn(entry, [...Object.keys(BUILT_IN), ...offered]);
  return [{ severity: 'error', code: 'CONFIG_CREATE', option: ['columns', index], message }];
}

function unknownColumn(name: string, offered: readonly string[]): string {
  const advice = didYouMean(name, offered) || `. Expected one of ${offered.join(', ')}`;
  return `there is no column "${name}"${advice}, a path that begins with \`meta.\` or \`results.\`, or { name, value }`;
}

async function csvSink(settings: CsvOptions, services: SinkServices): Promise<SinkInstance> {
  const columns = columnsOf(settings, services);
  const names = columns.map(({ name }) => name);
  // csv-stringify quotes only the record delimiter, but a single CR or LF ends a record for many readers.
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
      eachRecord(bytes, delimiter, (record, isHeader) => {
        if (isHeader) checkHeader(names, record);
        else if (idColumn !== -1) found(record[idColumn] ?? '');
      }),
    // Other options may have separated the cells by something else.
    scanOther: async (open, found) => {
      for (const each of new Set([delimiter, ',', ';', '\t'])) {
        let column = -1;
        const isFound = await eachRecord(open(), each, (record, isHeader) => {
          if (!isHeader) found(record[column] ?? '');
          else if ((column = record.indexOf('id')) === -1) throw new OtherColumns();
        }).then(
          () => true,
          () => column !== -1,
        );
        if (isFound) return;
      }
    },
  };
}

/** Calls `act` for each record of a CSV file; rejects with what that throws. */
function eachRecord(
  bytes: AsyncIterable<Buffer>,
  delimiter: string,
  act: (record: readonly string[], isHeader: boolean) => void,
): Promise<void> {
  return pipeline(
    bytes,
    parse({ delimiter, bom: true, record_delimiter: '\r\n', relax_column_count: true }),
    async (records: AsyncIterable<readonly string[]>) => {
      let isHeader = true;
      for await (const record of records) {
        act(record, isHeader);
        isHeader = false;
      }
    },
  );
}

function checkHeader(expected: readonly string[], found: readonly string[]): void {
  if (found.length === expected.length && found.every((name, i) => name === expected[i])) return;
  throw new OtherColumns(`its columns are ${found.join(', ')}; expected ${expected.join(', ')}`);
}

const BUILT_IN: Readonly<Record<string, CsvColumn['value']>> = {
  file: (frame) => frame.origin.name,
  id: (frame) => frame.id,
  receivedAt: (frame) => frame.origin.receivedAt,
  completedAt: (frame) => frame.completedAt,
  suspicious: (frame) => verdictOf(frame.results).abnormal,
  suspicion: (frame) => rounded(verdictOf(frame.results).suspicion),
};
/** Written by default only if a stage judges the films. */
const OF_THE_VERDICT = ['suspicious', 'suspicion'];

function columnsOf(settings: CsvOptions, services: SinkServices): CsvColumn[] {
  const offered = new Map<string, CsvColumn['value']>(Object.entries(BUILT_IN));
  const judged = isJudged(services.columns);
  const usual = Object.keys(BUILT_IN).filter((name) => judged || !OF_THE_VERDICT.includes(name));
  for (const { stage, column } of services.columns) {
    const name = `${stage}.${column.name}`;
    offered.set(name, (frame) => rounded(valueAt(frame.results[stage], column.path)));
    if (column.onRequest !== true) usual.push(name);
  }
  return (settings.columns ?? usual).map((entry) => {
    if (typeof entry !== 'string') return { name: entry.name, value: services.expression(entry.value) };
    const value = offered.get(entry) ?? pathColumn(entry);
    if (value === undefined) {
      throw new RxrayError('CONFIG_CREATE', `columns: ${unknownColumn(entry, [...offered.keys()])}`, {
        component: services.id,
      });
    }
    return { name: entry, value };
  });
}

function pathColumn(text: string): CsvColumn['value'] | undefined {
  const [root, ...path] = text.split('.');
  if ((root !== 'meta' && root !== 'results') || path.length === 0 || path.includes('')) return undefined;
  return (frame) => valueAt(frame[root], path);
}

/** Fractions with four significant digits. `results.…` has all digits. */
function rounded(value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
}

/** Numbers in their shortest exact form; missing values are empty. */
function cell(value: unknown): string | number {
  if (value === undefined || value === null) return '';
  if (typeof value === 'string' || typeof value === 'number') return value;
  if (typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  if (value instanceof Date) return value.toISOString();
  return JSON.stringify(withoutImages(value));
}
