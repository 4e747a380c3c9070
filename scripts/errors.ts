/** Writes `docs/errors.md` from the table of errors. */
import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { format } from 'prettier';
import { ERROR_KINDS, ERRORS, type ErrorKind } from '../src/core/errors.js';

export const ERRORS_FILE = new URL('../docs/errors.md', import.meta.url);

export async function errorsText(): Promise<string> {
  const text = [
    '# Error codes',
    'Generated from the table in `src/core/errors.ts` by `npm run reference`. Every error that rxray raises on purpose has one of these codes: search the logs for it. A message says what was expected, what came instead, and where.',
    ...(Object.keys(ERROR_KINDS) as ErrorKind[]).map(section),
  ].join('\n\n');
  return format(text, { parser: 'markdown', printWidth: 110, singleQuote: true });
}

function section(kind: ErrorKind): string {
  const { title, consequence, exit } = ERROR_KINDS[kind];
  const rows = Object.entries(ERRORS).filter(([, error]) => error.kind === kind);
  const lines = rows.map(
    ([code, { meaning, status, remedy }]) => `| \`${code}\` | ${String(status)} | ${meaning} | ${remedy} |`,
  );
  return [
    `## ${title}`,
    `${consequence} Exit code ${String(exit)}.`,
    ['| code | HTTP status | meaning | what to do |', '| --- | --- | --- | --- |', ...lines].join('\n'),
  ].join('\n\n');
}

async function main(): Promise<void> {
  writeFileSync(ERRORS_FILE, await errorsText());
}

// no top-level await: mocha would load the modules behind the test of this file twice
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) void main();
