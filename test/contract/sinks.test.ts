import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import csv from '../../src/sinks/csv.js';
import { sinkContract } from '../../src/testing.js';

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
