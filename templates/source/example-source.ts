import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { defineSource, z } from 'rxray';
import { concatMap, defer, filter, from, mergeMap, timer } from 'rxjs';

export default defineSource({
  name: 'example-source',
  summary: 'Looks into a folder again and again, without its subfolders.',
  options: z.strictObject({
    path: z.string().describe('The folder.'),
    everyMs: z.number().int().positive().default(1000).describe('How often it looks, in milliseconds.'),
    settleMs: z
      .number()
      .nonnegative()
      .default(500)
      .describe('A file is whole when it was not changed for so long.'),
  }),
  examples: [{ title: 'A slow disk', with: { path: './inbox', everyMs: 10_000 } }],
  create({ path, everyMs, settleMs }, { once, resolve }) {
    const folder = resolve(path);
    // It may offer a file again: the journal knows which are done.
    const scan$ = defer(() => readdir(folder, { withFileTypes: true })).pipe(
      mergeMap((entries) => from(entries)),
      filter((entry) => entry.isFile()),
      concatMap(async ({ name }) => {
        const path = join(folder, name);
        const { size, mtimeMs } = await stat(path);
        return { name, path, size, mtimeMs };
      }),
      filter(({ mtimeMs }) => once || Date.now() - mtimeMs > settleMs),
    );
    return { candidates$: once ? scan$ : timer(0, everyMs).pipe(concatMap(() => scan$)) };
  },
});
