import { copyFile, constants, mkdir, rename } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { syncFile, syncFolder } from './files.js';

/** One slice of a backfill: `index` of `count`, counted from 0. */
export interface Part {
  readonly index: number;
  readonly count: number;
}

/** A file that a sink writes during the part, and its name when the part is complete. */
export interface PartOutput {
  readonly from: string;
  readonly to: string;
}

/** `17/200`: part 17 of 200, counted from 0. Undefined for anything else. */
export function parsePart(text: string): Part | undefined {
  const [, index = '', count = ''] = /^(\d{1,9})\/(\d{1,9})$/.exec(text) ?? [];
  const part = { index: Number(index), count: Number(count) };
  return part.index < part.count ? part : undefined;
}

/** `00017-of-00200`: the order of names is that of numbers. */
export function partLabel({ index, count }: Part): string {
  const digits = (value: number): string => String(value).padStart(5, '0');
  return `${digits(index)}-of-${digits(count)}`;
}

/** The state folder of a part, inside that of the pipeline. */
export function partStateDir(stateDir: string, part: Part): string {
  return join(stateDir, 'parts', partLabel(part));
}

/**
 * The file that a sink (its id) writes during the part for the output `path`: `results.csv` becomes
 * `results-00017-of-00200.csv`.
 */
export function partOutput(sink: string, path: string, stateDir: string, part: Part): PartOutput {
  const ending = extname(path);
  const name = `${basename(path, ending)}-${partLabel(part)}${ending}`;
  return { from: join(stateDir, 'output', `${sink}${ending}`), to: join(dirname(path), name) };
}

/**
 * Copies the output of a complete part to its final name, atomically. The sink's own file stays, so that the part can
 * be repeated.
 */
export async function publish({ from, to }: PartOutput): Promise<void> {
  const copy = join(dirname(to), `.${basename(to)}.copy`);
  await mkdir(dirname(to), { recursive: true });
  await copyFile(from, copy, constants.COPYFILE_FICLONE);
  await syncFile(copy);
  await rename(copy, to);
  await syncFolder(dirname(to));
}
