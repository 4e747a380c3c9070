import { relative } from 'node:path';
import pc from 'picocolors';
import { printableLines } from '../printable.js';
import type { Issue } from './pipeline.js';

/** Maximum length of the source line that is shown. */
const WIDTH = 100;

export interface FormatOptions {
  /** The path of the file and its text. Without text, no source line is shown. */
  readonly file: string;
  readonly text?: string | undefined;
  readonly color?: boolean;
}

/** Issues in the order of the file. At one place: those of an entry as they were found, others by message. */
export function inOrder(issues: readonly Issue[]): Issue[] {
  const owner = ({ component, message }: Issue): string => component ?? message;
  return issues.toSorted((a, b) => order(a) - order(b) || compare(owner(a), owner(b)));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** Issues as text: {@link inOrder}, each with `file:line:column`, code, message, source line and a caret. */
export function formatIssues(issues: readonly Issue[], { file, text, color = false }: FormatOptions): string {
  const colors = pc.createColors(color);
  const name = shortest(file);
  const lines = text === undefined ? [] : printableLines(text.replaceAll('\r\n', '\n')).split('\n');
  return inOrder(issues)
    .map((issue) => {
      const paint = issue.severity === 'error' ? colors.red : colors.yellow;
      const { location } = issue;
      const place = location === undefined ? name : `${name}:${location.line}:${location.column}`;
      const head = `${colors.bold(place)} ${paint(issue.severity)} ${colors.dim(issue.code)} ${printableLines(issue.message)}`;
      const line = location === undefined ? undefined : lines[location.line - 1];
      if (location === undefined || line === undefined) return head;
      const number = String(location.line);
      const gutter = (label: string): string => colors.dim(`  ${label.padStart(number.length)} │ `);
      const { shown, before } = crop(line, location.column - 1);
      const length = Math.max(1, Math.min(issue.length ?? 1, shown.length - before.length));
      return `${head}\n${gutter(number)}${shown}\n${gutter('')}${before}${paint('^'.repeat(length))}`;
    })
    .join('\n\n');
}

function order({ location }: Issue): number {
  return location === undefined ? -1 : location.line * 1e6 + location.column;
}

/** The part of `line` around `column`, and blanks (tabs kept) as wide as the text before it. */
function crop(line: string, column: number): { shown: string; before: string } {
  const start = column > WIDTH - 20 ? column - 20 : 0;
  const shown = line.slice(start, start + WIDTH).trimEnd();
  return { shown, before: line.slice(start, column).replaceAll(/[^\t]/g, ' ') };
}

function shortest(file: string): string {
  const path = relative(process.cwd(), file);
  return path !== '' && path.length < file.length && !path.startsWith('..') ? path : file;
}
