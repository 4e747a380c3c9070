import type { Command } from 'commander';
import { z } from 'zod';
import { RxrayError } from '../core/errors.js';
import type { DatasetOptions } from '../training/dataset.js';

/** How a manifest is read. */
export interface ManifestOptions {
  readonly columns?: string;
  readonly directory?: string;
}

/** Adds those options. */
export function manifestOptions(command: Command): Command {
  return command
    .option('--columns <names>', "the manifest's columns, e.g. path=file,class=label,patient=id")
    .option(
      '--directory <dir>',
      "what the manifest's paths are relative to (default: the manifest's folder)",
    );
}

const schema = z.partialRecord(
  z.enum(['path', 'class', 'split', 'patient', 'duplicateOf', 'mask']),
  z.string(),
);

/** Reads them. Throws `TRAINING_DATA` for `--columns` that are not `path=file,class=label`. */
export function manifestOptionsOf({
  columns: text,
  directory,
}: ManifestOptions): Required<Pick<DatasetOptions, 'columns'>> & Pick<DatasetOptions, 'directory'> {
  const parsed = schema.safeParse(Object.fromEntries(text?.split(',').map((pair) => pair.split('=')) ?? []));
  if (!parsed.success) {
    throw new RxrayError('TRAINING_DATA', `--columns ${text ?? ''}: ${z.prettifyError(parsed.error)}`);
  }
  return { columns: parsed.data, ...(directory !== undefined && { directory }) };
}
