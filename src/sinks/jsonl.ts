import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { z } from 'zod';
import { defineSink, type SinkInstance, type SinkServices } from '../core/plugin.js';
import { CommittedFile, filesOf, type RowFormat, rotation } from './committed-file.js';
import { rowSink } from './row-sink.js';
import { plain } from './plain.js';

const options = z.strictObject({
  path: z.string().min(1).describe('The file. A missing folder is created.'),
  includeFile: z
    .boolean()
    .default(true)
    .describe("Write the file name. File names may contain patients' names: `false` leaves them out."),
  rotate: rotation,
});
type JsonlOptions = z.output<typeof options>;

export default defineSink({
  name: 'jsonl',
  summary: 'Writes one JSON object per film and line into a file, each exactly once.',
  options,
  examples: [
    { title: 'All results', with: { path: './out/results.jsonl' } },
    {
      title: 'One file per day, without file names',
      with: { path: './out/results.jsonl', includeFile: false, rotate: { every: 'day' } },
    },
  ],
  // A group costs two syncs, whatever its length.
  maxBatch: 256,
  output: 'path',
  writes: ({ path }) => filesOf(path),
  create: jsonlSink,
});

async function jsonlSink(settings: JsonlOptions, services: SinkServices): Promise<SinkInstance> {
  const file = await CommittedFile.open({
    path: services.resolve(settings.path),
    stateDir: services.stateDir,
    format: JSON_LINES,
    rotate: settings.rotate,
    setAside: services.again,
    log: services.log,
  });

  return rowSink({
    name: 'jsonl',
    id: services.id,
    path: settings.path,
    file,
    rowOf: (frame) => `${JSON.stringify(plain(frame, settings.includeFile))}\n`,
  });
}

const JSON_LINES: RowFormat = {
  name: 'jsonl',
  header: '',
  holdsIds: true,
  async scan(bytes, found) {
    let line = 0;
    for await (const text of createInterface({ input: Readable.from(bytes), crlfDelay: Infinity })) {
      line += 1;
      found(idIn(text, line));
    }
  },
};

function idIn(text: string, line: number): string {
  try {
    const { id } = JSON.parse(text) as { id?: unknown };
    if (typeof id === 'string') return id;
  } catch {
    // Told below.
  }
  throw new Error(`expected a JSON object with an \`id\` in line ${line}, as rxray writes them`);
}
