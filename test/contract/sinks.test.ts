import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { parse } from 'csv-parse/sync';
import Database from 'libsql';
import csv from '../../src/sinks/csv.js';
import folderSink from '../../src/sinks/folder.js';
import jsonl from '../../src/sinks/jsonl.js';
import sqlite from '../../src/sinks/sqlite.js';
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

sinkContract('jsonl', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-jsonl-'));
  const path = join(folder, 'results.jsonl');
  return {
    plugin: jsonl,
    with: { path },
    refused: [{}, { path, rotate: {} }, { path, rotate: { every: 'hour' } }, { path, rotate: { bytes: 0 } }],
    async delivered() {
      const lines = (await readFile(path, 'utf8')).split('\n').slice(0, -1);
      return lines.map((line) => JSON.parse(line) as { id: string; file: string });
    },
    dispose: () => rm(folder, { recursive: true }),
  };
});

sinkContract('sqlite', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-sqlite-'));
  const path = join(folder, 'results.db');
  return {
    plugin: sqlite,
    with: { path },
    refused: [{}, { path, table: 'a b' }, { path, table: 'sqlite_films' }],
    async delivered() {
      const database = new Database(path, { readonly: true });
      try {
        return database.prepare('SELECT id, file FROM films ORDER BY rowid').all() as {
          id: string;
          file: string;
        }[];
      } finally {
        database.close();
      }
    },
    dispose: () => rm(folder, { recursive: true }),
  };
});

interface Film {
  readonly id: string;
  readonly file: string;
  readonly results: { readonly anomaly?: { readonly anomalyScore: number } };
}

/** The contract's films have scores that grow, where they have any. */
const scoreOf = ({ results }: Film): number => results.anomaly?.anomalyScore ?? 0;

sinkContract('folder', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-folder-'));
  const path = join(folder, 'films');
  return {
    plugin: folderSink,
    with: { path, name: '{folder}/{stem}-{id}', size: 64 },
    refused: [{}, { path, name: '{stem}' }, { path, name: '{id}/{patient}' }, { path, name: '../{id}' }],
    async delivered() {
      const names = (await readdir(path, { recursive: true })).filter((name) => name.endsWith('.json'));
      const files = await Promise.all(
        names.map(async (name) => {
          const film = JSON.parse(await readFile(join(path, name), 'utf8')) as Film;
          const { mtimeNs, ino } = await stat(join(path, name), { bigint: true });
          return { ...film, mtimeNs, ino };
        }),
      );
      // Several are written in one tick of the file system's clock, and a repetition takes any inode that is free.
      return files.sort(
        (a, b) => Number(a.mtimeNs - b.mtimeNs) || scoreOf(a) - scoreOf(b) || Number(a.ino - b.ino),
      );
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
    refused: [{ format: 'xml' }, { flagAbove: 95 }],
    keepsRecord: false,
    async delivered() {
      const lines = text.split('\n').filter((line) => line !== '');
      return lines.map((line) => JSON.parse(line) as { id: string; file: string });
    },
  };
});
