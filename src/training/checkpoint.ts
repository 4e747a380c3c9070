import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RxrayError, messageOf } from '../core/errors.js';
import type { HostTensor, HostTensors } from '../engine/index.js';
import { readTensorFile, writeTensorFile } from './tensor-file.js';

/**
 * Everything that a training needs to continue as without an interruption: named groups of tensors (`state`, `average`,
 * `best`) and its progress. Random numbers need no state: they are drawn from (seed, epoch, index).
 */
export interface Checkpoint<P> {
  readonly groups: Readonly<Record<string, HostTensors>>;
  readonly progress: P;
}

const FILE = 'checkpoint.safetensors';

/** Replaces the checkpoint in `dir` atomically. `settings` must be the same when it is resumed. */
export async function saveCheckpoint<P>(
  dir: string,
  settings: Readonly<Record<string, unknown>>,
  { groups, progress }: Checkpoint<P>,
): Promise<void> {
  await mkdir(dir, { recursive: true });
  const tensors: HostTensors = {};
  for (const [group, members] of Object.entries(groups)) {
    for (const [name, tensor] of Object.entries(members)) tensors[`${group}:${name}`] = tensor;
  }
  await writeTensorFile(join(dir, FILE), {
    tensors,
    metadata: { settings: JSON.stringify(settings), progress: JSON.stringify(progress) },
  });
}

/** Throws `TRAINING_RESUME` when there is none, when it is damaged, or when a setting differs. */
export async function loadCheckpoint<P>(
  dir: string,
  settings: Readonly<Record<string, unknown>>,
): Promise<Checkpoint<P>> {
  const path = join(dir, FILE);
  const { tensors, metadata } = await readTensorFile(path).catch((cause: unknown) => {
    throw new RxrayError('TRAINING_RESUME', `there is no checkpoint to resume: ${messageOf(cause)}`, {
      cause,
    });
  });
  const saved = JSON.parse(metadata.settings ?? '{}') as Record<string, unknown>;
  const different = [...new Set([...Object.keys(saved), ...Object.keys(settings)])]
    .map((key) => ({ key, was: JSON.stringify(saved[key]), is: JSON.stringify(settings[key]) }))
    .filter(({ was, is }) => was !== is)
    .map(({ key, was, is }) => `${key} was ${was}, now ${is}`);
  if (different.length > 0) {
    throw new RxrayError(
      'TRAINING_RESUME',
      `${path} was written with other settings (${different.join('; ')}): repeat them, or leave --resume out`,
    );
  }
  const groups: Record<string, HostTensors> = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    const colon = name.indexOf(':');
    (groups[name.slice(0, colon)] ??= {})[name.slice(colon + 1)] = tensor as HostTensor;
  }
  return { groups, progress: JSON.parse(metadata.progress ?? 'null') as P };
}
