import { writeFile } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import type { Command } from 'commander';
import { stringify } from 'csv-stringify/sync';
import { stateDirOf } from '../core/config/state-dir.js';
import { printable } from '../core/printable.js';
import { Reviews, type Review } from '../core/reviews.js';
import { EXIT } from './exit.js';
import { columns } from './table.js';

const EXAMPLES = `
Examples:
  $ rxray reviews ls                             the decisions about the films of pipeline.yaml
  $ rxray reviews ls ward.yaml --json
  $ rxray reviews export --out reviews.csv       a manifest: path, class, patient is not known
  $ rxray train resnet --data reviews.csv --init models/chest-resnet --about about.yaml --out models/ward
  $ rxray evaluate models/chest-resnet --reviews   the same films, without the manifest

Review films on the page (rxray run --page): right, wrong (with the class), unusable, reviewed. Films without a
class and unusable films are not exported.`;

export const NONE_REVIEWED =
  'no film has been reviewed with a class: mark films as right or wrong on the page first';

export function reviews(program: Command): void {
  const command = program.command('reviews').addHelpText('after', EXAMPLES);
  command
    .command('ls')
    .description('Lists the last decision about each film.')
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .option('--json', 'print JSON')
    .action(async (pipeline: string, { json }: { json?: true }) => {
      const all = await latestOf(pipeline);
      process.stdout.write(`${json ? JSON.stringify(all, null, 2) : tableOf(all)}\n`);
    });
  command
    .command('export')
    .description('Writes the reviewed films as a manifest (CSV) for train and evaluate.')
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .requiredOption('--out <file>', 'the manifest to write')
    .action(async (pipeline: string, { out }: { out: string }) => {
      const all = await latestOf(pipeline);
      const { text, films } = manifestOf(all, out);
      if (films === 0) {
        process.stderr.write(`${NONE_REVIEWED}\n`);
        process.exitCode = EXIT.usage;
        return;
      }
      await writeFile(out, text);
      const left = all.length - films;
      process.stdout.write(
        `${out}: ${films} ${films === 1 ? 'film' : 'films'}${left === 0 ? '' : `; ${left} without a class left out`}\n`,
      );
    });
}

/** The last decision about each film of a pipeline. */
export async function latestOf(pipeline: string): Promise<Review[]> {
  return [...(await new Reviews(await stateDirOf(pipeline)).latest()).values()];
}

/** The films with a class, as a manifest beside `out`: paths are relative to its folder. */
export function manifestOf(reviewed: readonly Review[], out: string): { text: string; films: number } {
  const folder = dirname(resolve(out));
  const rows = reviewed
    .filter(({ answer, class: label }) => label !== null && answer !== 'unusable')
    .map(({ path, class: label, by, at }) => ({ path: relative(folder, path), class: label, by, at }));
  return {
    text: stringify(rows, { header: true, columns: ['path', 'class', 'by', 'at'] }),
    films: rows.length,
  };
}

function tableOf(reviewed: readonly Review[]): string {
  if (reviewed.length === 0) return 'no film has been reviewed';
  return columns([
    ['film', 'answer', 'class', 'by', 'at'],
    ...reviewed.map(({ file, answer, class: label, by, at }) => [
      printable(file),
      answer,
      label ?? '',
      printable(by),
      at,
    ]),
  ]);
}
