import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { parse } from 'csv-parse/sync';
import csv from '../../src/sinks/csv.js';
import consolePlugin, { consoleSink } from '../../src/sinks/console.js';
import webhook from '../../src/sinks/webhook.js';
import { sinkContract } from '../../src/testing.js';
import { Receiver } from '../sinks/receiver.js';

sinkContract('csv', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-csv-'));
  const path = join(folder, 'results.csv');
  return {
    plugin: csv,
    with: { path },
    refused: [{}, { path, delimiter: '::' }, { path, columns: ['nothing'] }, { path, columns: [] }],
    async delivered() {
      const [, ...rows] = parse(await readFile(path), { record_delimiter: '\r\n' });
      // as a spreadsheet shows it: the quote in front of a formula is not part of the text
      return rows.map(([file = '', id = '']) => ({ id, file: file.replace(/^'(?=[=+\-@])/, '') }));
    },
    dispose: () => rm(folder, { recursive: true }),
  };
});

sinkContract('csv without ids', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-csv-'));
  const path = join(folder, 'results.csv');
  return {
    plugin: csv,
    with: { path, columns: [{ name: 'frame', value: 'id' }] },
    async delivered() {
      const [, ...rows] = parse(await readFile(path), { record_delimiter: '\r\n' });
      return rows.map(([id = '']) => ({ id }));
    },
    dispose: () => rm(folder, { recursive: true }),
  };
});

sinkContract('webhook', async () => {
  const receiver = await Receiver.listen();
  return {
    plugin: webhook,
    with: { url: receiver.url, includeFile: true },
    refused: [
      {},
      { url: 'ftp://example.org/' },
      { url: receiver.url, timeoutMs: 0 },
      { url: receiver.url, secret: '!' },
      { url: receiver.url, fields: { broken: '1 +' } },
    ],
    async delivered() {
      // `webhook-id` is an idempotency key: a receiver that knows it already does nothing
      const bodies = receiver.requests.map(({ headers, body }) => {
        const { file } = JSON.parse(body) as { file: string };
        return [String(headers['webhook-id']), file] as const;
      });
      return [...new Map(bodies)].map(([id, file]) => ({ id, file }));
    },
    dispose: () => receiver.close(),
  };
});

sinkContract('console', () => {
  const output = new PassThrough();
  let text = '';
  output.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return {
    plugin: {
      ...consolePlugin,
      create: (settings, services) => consoleSink(settings as never, services, output),
    },
    refused: [{ format: 'xml' }, { flagAbove: 101 }],
    keepsRecord: false,
    async delivered() {
      const lines = text.split('\n').filter((line) => line !== '');
      return lines.map((line) => JSON.parse(line) as { id: string; file: string });
    },
  };
});
