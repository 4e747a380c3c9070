import { mkdir, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { concatMap, bufferCount, from } from 'rxjs';
import { z } from 'zod';
import { messageOf, RxrayError } from '../core/errors.js';
import { existingPath } from '../core/files.js';
import { type Candidate, defineSource, type SourceInstance, type SourceServices } from '../core/plugin.js';
import { FilmFetcher } from './manifest/fetch.js';
import { headOf, linesOf, type Line } from './manifest/lines.js';
import { rowReader, type Row } from './manifest/row.js';

const options = z.strictObject({
  path: z
    .string()
    .min(1)
    .describe('The list: a CSV file, one film per line, relative to the pipeline file. May end in `.gz`.'),
  columns: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe(
      'The columns, in order, of a list without a header. Used are `path`, or `bucket` and `key` (URL-encoded, as ' +
        'S3 Inventory writes them), and optionally `size` and `lastModified`.',
    ),
  headers: z
    .record(z.string(), z.string())
    .default({})
    .describe('Headers of the requests for films at `https:` addresses.'),
  s3: z
    .strictObject({
      endpoint: z.url().optional().describe("The server's address. Default: Amazon's."),
      region: z.string().min(1).optional().describe('Default: `AWS_REGION`.'),
      pathStyle: z
        .boolean()
        .default(false)
        .describe('Puts the bucket into the path, which most servers need.'),
    })
    .prefault({})
    .describe('The server of `s3:` films. The AWS client finds the credentials in its usual places.'),
  attempts: z.int().min(1).max(20).default(5).describe('Maximum number of requests for a film.'),
});
export type ManifestOptions = z.output<typeof options>;

/** Lines that are checked together. */
const AT_ONCE = 64;

export default defineSource({
  name: 'manifest',
  summary: 'Takes the films listed in a CSV file: local files, https: and s3: addresses. For backfills.',
  options,
  examples: [
    { title: 'A list with a column `path`', with: { path: './films.csv' } },
    {
      title: 'The inventory of a bucket',
      with: {
        path: './inventory.csv.gz',
        columns: ['bucket', 'key', 'size', 'lastModified'],
        s3: { region: 'eu-central-1' },
      },
    },
  ],
  splits: true,
  onlyLooks: true,
  fetcher: (settings, services) => openFetcher(settings, services),
  create: manifestSource,
});

async function openFetcher(
  settings: ManifestOptions,
  { stateDir, id, signal }: Pick<SourceServices, 'stateDir' | 'id' | 'signal'>,
): Promise<FilmFetcher> {
  const folder = join(stateDir, `fetched-${id}`);
  // Files left by a crash.
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  return new FilmFetcher(folder, settings, signal);
}

async function manifestSource(settings: ManifestOptions, services: SourceServices): Promise<SourceInstance> {
  const { part } = services;
  const file = services.resolve(settings.path);
  await stat(file).catch((cause: unknown) => {
    throw new RxrayError('CONFIG_CREATE', `the list ${file} cannot be read (\`path\`): ${messageOf(cause)}`, {
      cause,
    });
  });
  const head = await headOf(file, settings.columns === undefined);
  const rowOf = rowReader(settings.columns ?? head.columns, head.delimiter, file);
  const fetcher = await openFetcher(settings, services);
  const base = dirname(file);

  async function offers(lines: readonly Line[]): Promise<Candidate[]> {
    const found = await Promise.all(
      lines.map(async (line) => {
        try {
          const row = rowOf(line);
          return row === undefined ? undefined : await candidateOf(row, base);
        } catch (error) {
          services.unread(`${settings.path}, ${line.place}`, messageOf(error));
          return undefined;
        }
      }),
    );
    const candidates = found.filter((each) => each !== undefined);
    for (const { path } of candidates) await fetcher.prepare(path);
    return services.unsettled(candidates);
  }

  return {
    candidates$: from(linesOf(file, { part, head })).pipe(
      bufferCount(AT_ONCE),
      concatMap(offers),
      concatMap((candidates) => from(candidates)),
    ),
    look: (name) => candidateOf({ path: name }, base),
    fetch: (candidate, maxBytes) => fetcher.fetch(candidate, maxBytes),
    dispose: () => fetcher.dispose(),
  };
}

/** The film of a row. A missing one is offered with its error, so that it gets into the dead letter. */
async function candidateOf({ path: name, size = 0, mtimeMs = 0 }: Row, base: string): Promise<Candidate> {
  if (/^(https?|s3):/.test(name)) return { path: name, name, size, mtimeMs };
  const isUrl = name.startsWith('file:');
  let path = isUrl ? fileURLToPath(name) : resolve(base, name);
  try {
    const info = await stat(path).catch(async (error: unknown) => {
      if (isUrl) throw error;
      path = await existingPath(name, base);
      return stat(path);
    });
    const { size: bytes, mtimeMs: changed, ino, ctimeMs } = info;
    return { path, name, size: bytes, mtimeMs: changed, ino, ctimeMs };
  } catch (cause) {
    const why = name.includes('\ufffd') ? 'its name in the list is not UTF-8 text' : messageOf(cause);
    const error = new RxrayError('FRAME_UNREADABLE', `the file cannot be read: ${why}`, { cause });
    return { path, name, size, mtimeMs, error };
  }
}
