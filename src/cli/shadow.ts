import type { Command } from 'commander';
import pc from 'picocolors';
import { compareShadows, type ShadowComparison } from '../control/shadow.js';
import { stateDirOf } from '../core/config/state-dir.js';
import { NOTICE } from '../core/notice.js';
import { printable } from '../core/printable.js';
import type { Interval } from '../models/wilson.js';
import { createLog } from './log.js';
import { sinceOf } from './since.js';
import { columns } from './table.js';
import { lastFilms } from './worklist.js';

const EXAMPLES = `
Examples:
  $ rxray shadow                        the shadow stages of pipeline.yaml
  $ rxray shadow ward.yaml --since 7d   on the films of the last week
  $ rxray shadow --json | jq '.[].verdict'

A stage with \`shadow: true\` is compared with the verdicts of the graph, on the last films of the worklist (10,000 at most).
In brackets: 95 % intervals (Wilson).`;

interface Flags {
  readonly since?: number;
  readonly json?: true;
}

/** Films that are listed. */
const LISTED = 20;

export function shadow(program: Command): void {
  program
    .command('shadow')
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .option('--since <time>', 'only films since then: 90m, 24h, 7d, or a date', sinceOf)
    .option('--json', 'print JSON, with all films that differ')
    .addHelpText('after', EXAMPLES)
    .action(async (file: string, { since, json }: Flags) => {
      const compared = compareShadows(await lastFilms(await stateDirOf(file), createLog(), since));
      process.stdout.write(`${json ? JSON.stringify(compared, null, 2) : textOf(compared)}\n`);
    });
}

function textOf(compared: readonly ShadowComparison[]): string {
  if (compared.length === 0) return 'no film has results of a shadow stage: set `shadow: true` on a stage';
  return [...compared.map(sectionOf), NOTICE].join('\n\n');
}

function sectionOf({ stage, films, missing, verdict, labels, differing }: ShadowComparison): string {
  const lines = [
    pc.bold(`${stage} on ${films} films${missing === 0 ? '' : ` (${missing} more without its result)`}`),
  ];
  if (verdict !== null) {
    const { agreement, both, neither, onlyGraph, onlyShadow } = verdict;
    lines.push(
      `same verdict: ${shareOf(agreement)}`,
      columns([
        ['', `${stage}: abnormal`, 'not'],
        ['graph: abnormal', String(both), String(onlyGraph)],
        ['graph: not', String(onlyShadow), String(neither)],
      ]),
    );
  }
  if (labels.length > 0) {
    const rows = labels.map(({ label, films: count, agreement, shadow }) => [
      printable(label),
      String(count),
      shareOf(agreement),
      Object.entries(shadow)
        .filter(([other]) => other !== label)
        .sort(([, a], [, b]) => b - a)
        .map(([other, n]) => `${printable(other)} ${n}`)
        .join(', '),
    ]);
    lines.push(columns([['LABEL', 'FILMS', 'SAME', 'ELSE'].map((text) => pc.dim(text)), ...rows]));
  }
  const said = ({ abnormal, suspicion, label }: (typeof differing)[number]['graph']): string =>
    [
      ...(abnormal === null ? [] : [abnormal ? '⚑' : '✓']),
      ...(suspicion === null ? [] : [suspicion.toFixed(2)]),
      ...(label === null ? [] : [printable(label)]),
    ].join(' ');
  if (differing.length > 0) {
    const rows = differing
      .slice(0, LISTED)
      .map(({ id, file, graph, shadow }) => [id.slice(0, 8), printable(file), said(graph), said(shadow)]);
    lines.push(columns([['ID', 'FILE', 'GRAPH', stage].map((text) => pc.dim(text)), ...rows]));
    if (differing.length > LISTED) lines.push(`and ${differing.length - LISTED} more (--json)`);
  }
  return lines.join('\n');
}

function shareOf({ value, low, high }: Interval): string {
  const percent = (share: number): string => (100 * share).toFixed(1);
  return `${percent(value)} % (${percent(low)}–${percent(high)})`;
}
