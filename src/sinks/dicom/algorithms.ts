import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { SinkServices } from '../../core/plugin.js';
import { readBundle, sha256 } from '../../models/bundle.js';

/** The model that a stage's result comes from. */
export interface Algorithm {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of bundle.json, which has the hashes of the bundle's files. */
  readonly sha256?: string;
}

/** rxray's own version. */
export const { version: VERSION } = createRequire(import.meta.url)('../../../package.json') as {
  version: string;
};

/** The algorithm of each stage: its model if it has one, else the stage itself. */
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
