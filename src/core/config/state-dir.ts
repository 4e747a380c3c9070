import { dirname, resolve } from 'node:path';
import { RxrayError } from '../errors.js';
import { YamlFile } from './document.js';
import { readText, unreadable } from './load.js';
import { pipelineSchema } from './schema.js';

/**
 * The state folder of a pipeline file (absolute), even if the file has other errors: a process that runs an earlier
 * version of the file is found there. Throws CONFIG_NOT_FOUND or CONFIG_INVALID.
 */
export async function stateDirOf(path: string, env = process.env): Promise<string> {
  const file = resolve(path);
  const text = await readText(file).catch((cause: unknown) => {
    throw new RxrayError('CONFIG_NOT_FOUND', unreadable(file, cause), { cause });
  });
  const { state } = (new YamlFile(text, env).data ?? {}) as { state?: unknown };
  const parsed = pipelineSchema.shape.state.safeParse(state);
  if (!parsed.success) {
    throw new RxrayError(
      'CONFIG_INVALID',
      `${file}: expected a folder for \`state:\`, got ${JSON.stringify(state)}`,
    );
  }
  return resolve(dirname(file), parsed.data);
}
