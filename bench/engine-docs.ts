/**
 * Puts the figures of a benchmark into docs/performance.md:
 *
 *     npm run bench:engine -- --json figures.json
 *     npm run bench:engine:docs -- figures.json
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { markdownTable, type Figure } from './engine/figures.js';

const PAGE = fileURLToPath(new URL('../docs/performance.md', import.meta.url));
const TABLE = /(<!-- engine-figures:begin -->).*(<!-- engine-figures:end -->)/s;

const [path] = process.argv.slice(2);
if (path === undefined) throw new RangeError('expected the file that `--json` wrote');
const figures = JSON.parse(await readFile(path, 'utf8')) as Figure[];
const page = await readFile(PAGE, 'utf8');
if (!TABLE.test(page)) throw new Error(`${PAGE}: expected the marks engine-figures:begin and :end`);
const renewed = page.replace(
  TABLE,
  (_, begin: string, end: string) => `${begin}\n\n${markdownTable(figures)}\n\n${end}`,
);
const options = await resolveConfig(PAGE);
await writeFile(PAGE, await format(renewed, { ...options, filepath: PAGE }));
