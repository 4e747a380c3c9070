/** Writes the tables of a film's fate into `docs/delivery.md`, from the function that decides it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { format } from 'prettier';
import {
  ADMITTED,
  next,
  type Delivery,
  type Fate,
  type FateEvent,
  type SinkEvent,
} from '../src/core/fate.js';

const FILE = new URL('../docs/delivery.md', import.meta.url);
const MARKS = ['<!-- fates: npm run reference -->', '<!-- end of fates -->'] as const;

const sink = 'a';
const code = 'FRAME_SINK';
const DELIVERIES: readonly Delivery[] = ['open', 'absent', 'parked', 'confirmed', 'refused'];
const SINK_EVENTS: Readonly<Record<SinkEvent['kind'], string>> = {
  skip: 'it is not meant for the sink',
  park: 'the sink is down: into the journal',
  confirm: 'the sink confirms',
  refuse: 'the sink refuses',
};
const FATES: readonly [string, Fate][] = [
  ['admitted', { ...ADMITTED, sinks: { a: 'confirmed' } }],
  ['admitted, one sink parked', { ...ADMITTED, sinks: { a: 'parked' } }],
  ['admitted, one sink refused', { ...ADMITTED, code, sinks: { a: 'refused' } }],
  ['waiting', { status: 'waiting', code: null, sinks: { a: 'parked' } }],
  ['done', { status: 'done', code: null, sinks: { a: 'confirmed' } }],
  ['failed', { status: 'failed', code, sinks: { a: 'parked' } }],
];
const FILM_EVENTS: readonly [string, FateEvent][] = [
  ['a stage fails', { kind: 'fail', code: 'FRAME_STAGE' }],
  ['it leaves the graph', { kind: 'leave' }],
  ['the parked sink confirms', { kind: 'confirm', sink }],
  ['the parked sink refuses', { kind: 'refuse', sink, code }],
  ['it is admitted again', { kind: 'admit' }],
];

export async function fateTables(): Promise<string> {
  const deliveries = DELIVERIES.map((now) => [
    now,
    ...(Object.keys(SINK_EVENTS) as SinkEvent['kind'][]).map((kind) => {
      const fate = next(
        { ...ADMITTED, sinks: now === 'open' ? {} : { [sink]: now } },
        {
          kind,
          sink,
          code,
        },
      );
      return fate.sinks[sink] ?? 'open';
    }),
  ]);
  const statuses = FATES.map(([name, fate]) => [
    name,
    ...FILM_EVENTS.map(([, event]) => next(fate, event).status),
  ]);
  const text = [
    MARKS[0],
    'At one sink:',
    table(['now', ...Object.values(SINK_EVENTS)], deliveries),
    'The film as a whole:',
    table(['now', ...FILM_EVENTS.map(([name]) => name)], statuses),
    MARKS[1],
  ].join('\n\n');
  return (await format(text, { parser: 'markdown', printWidth: 110, singleQuote: true })).trim();
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

async function main(): Promise<void> {
  const page = readFileSync(FILE, 'utf8');
  const [from, to] = [page.indexOf(MARKS[0]), page.indexOf(MARKS[1])];
  writeFileSync(FILE, page.slice(0, from) + (await fateTables()) + page.slice(to + MARKS[1].length));
}

// no top-level await: mocha would load the modules behind the test of this file twice
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) void main();
