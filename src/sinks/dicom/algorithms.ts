import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { SinkServices } from '../../core/plugin.js';
import { readBundle, sha256 } from '../../models/bundle.js';

/** Which model a stage's result is of. */
export interface Algorithm {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of the bundle's description, which has the hashes of its files. */
  readonly sha256?: string;
}

/** rxray's own version. */
export const { version: VERSION } = createRequire(import.meta.url)('../../../package.json') as {
  version: string;
};

/** What each stage of the graph works by: its model where it has one, else the stage itself. */
export async function algorithmsOf({
  stages,
  resolve,
}: SinkServices): Promise<ReadonlyMap<string, Algorithm>> {
  const found = stages.map(async ({ id, use, with: settings }): Promise<[string, Algorithm]> => {
    const { bundle } = settings as { bundle?: unknown };
    if (typeof bundle !== 'string') return [id, { name: use, version: VERSION }];
    const dir = resolve(bundle);
    const { name, createdAt } = await readBundle(dir);
    return [id, { name, version: createdAt, sha256: sha256(await readFile(join(dir, 'bundle.json'))) }];
  });
  return new Map(await Promise.all(found));
}
