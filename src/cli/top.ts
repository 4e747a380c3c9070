import { setTimeout } from 'node:timers/promises';
import type { Command } from 'commander';
import pc from 'picocolors';
import type { Live, LiveNode } from '../control/live.js';
import { printable } from '../core/printable.js';
import { withRunning } from './control.js';
import { columns } from './table.js';

const EXAMPLES = `
Examples:
  $ rxray top                         the running graph of pipeline.yaml, until Ctrl-C
  $ rxray top ward.yaml --once        print it once
  $ rxray top --json | jq .limiting   the bottleneck, as JSON

top connects to the running process over its socket in the state folder.`;

/** The reply of \`/api/graph\`. */
export type GraphReply = Live & { readonly name: string; readonly state: string; readonly graph: string };

export function top(program: Command): void {
  program
    .command('top')
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .option('--once', 'print once instead of every second (default when piped)')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (file: string, { once, json }: { once?: true; json?: true }) => {
      process.exitCode = await withRunning(file, async (client) => {
        const look = async (): Promise<GraphReply> => (await client.json('/api/graph')) as GraphReply;
        if (json === true) process.stdout.write(`${JSON.stringify(await look(), null, 2)}\n`);
        else if (once === true || !process.stdout.isTTY) process.stdout.write(`${tableOf(await look())}\n`);
        else await watch(look);
      });
    });
}

/** Redraws every second on the terminal's alternate screen until Ctrl-C. */
async function watch(look: () => Promise<GraphReply>): Promise<void> {
  const { stdout } = process;
  const ending = new AbortController();
  process.once('SIGINT', () => ending.abort());
  stdout.write('\u001b[?1049h\u001b[?25l');
  try {
    for (let answer = await look(); !ending.signal.aborted; answer = await look()) {
      stdout.write(`\u001b[H\u001b[J${tableOf(answer)}\n\n${pc.dim('Ctrl-C ends')}`);
      await setTimeout(1000, undefined, { signal: ending.signal }).catch(() => undefined);
    }
  } finally {
    stdout.write('\u001b[?25h\u001b[?1049l');
  }
}

/** The state of the graph and one line per entry; the bottleneck is marked and named. */
export function tableOf(answer: GraphReply): string {
  const { name, state, uptimeSeconds, films, filmsPerSecond, load, memory, limiting, nodes, cluster } =
    answer;
  const mark = (node: LiveNode, text: string): string =>
    node.id === limiting ? pc.bold(pc.yellow(text)) : text;
  const head = ['ENTRY', 'KIND', 'FRAMES', 'PER S', 'WAIT', 'IN HAND', 'BUSY', 'MS', 'BATCH', 'FAILED'].map(
    (text) => pc.dim(text),
  );
  const rows = nodes.map((node) => [
    mark(node, node.id),
    node.kind,
    String(node.framesOut),
    node.framesPerSecond.toFixed(1),
    String(node.queue),
    String(node.inFlight),
    mark(node, node.busy === null ? '–' : `${Math.round(node.busy * 100)} %`),
    node.ms === null ? '–' : node.ms.toFixed(node.ms < 10 ? 1 : 0),
    node.batch === null ? '–' : node.batch.toFixed(1),
    node.errors > 0 ? pc.red(String(node.errors)) : '0',
  ]);
  const pace =
    limiting === null
      ? 'idle: waiting for films'
      : `${pc.bold(limiting)} sets the pace (${nodes.find(({ id }) => id === limiting)?.use ?? ''})`;
  const workers = cluster === null ? [] : ['', ...workersOf(cluster)];
  const parked = nodes
    .filter((node) => node.parked > 0)
    .map((node) => `${node.parked} films wait in the journal for ${pc.bold(node.id)}`);
  return [
    `${pc.bold(name)} ${state}, up ${duration(uptimeSeconds)}, ${(memory / 1024 ** 2).toFixed(0)} MiB`,
    `${films.done} done, ${films.failed} failed, ${filmsPerSecond.toFixed(1)} films/s; ` +
      `${load.frames} in flight, ${load.waiting} waiting`,
    '',
    columns([head, ...rows], [2, 3, 4, 5, 6, 7, 8, 9]),
    '',
    pace,
    ...workers,
    ...parked,
    ...nodes.flatMap(({ id, trouble }) =>
      trouble === null ? [] : [pc.red(`${id} since ${trouble.since}: ${printable(trouble.message)}`)],
    ),
  ].join('\n');
}

function workersOf({ workers, backlog, desired }: NonNullable<GraphReply['cluster']>): string[] {
  const head = ['WORKER', 'FILMS', 'PER S', 'IN HAND', 'ROOM'].map((text) => pc.dim(text));
  const rows = workers.map(({ name, through, filmsPerSecond, films, room }) => [
    printable(name),
    String(through),
    filmsPerSecond === null ? '–' : filmsPerSecond.toFixed(1),
    String(films),
    String(room),
  ]);
  return [
    columns([head, ...rows], [1, 2, 3, 4]),
    `workers: ${String(workers.length)}, wanted: ${String(desired)}; films waiting or at work: ${String(backlog)}`,
  ];
}

function duration(seconds: number): string {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return h > 0 ? `${h} h ${m} min` : m > 0 ? `${m} min ${s} s` : `${s} s`;
}
