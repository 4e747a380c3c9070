import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { DeadLetter } from '../../src/core/dead-letter.js';
import { listEntries } from '../../src/core/dead-letter-entries.js';
import { WorkerPool } from '../../src/core/workers/pool.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

describe('the dead letter', () => {
  let dir: string;
  let pool: WorkerPool;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-letter-'));
    pool = new WorkerPool(silent, 1);
  });
  after(async () => {
    await pool.dispose();
    await rm(dir, { recursive: true });
  });

  it('keeps a complete film that several sinks refuse at the same time', async () => {
    const path = join(dir, 'film.png');
    await writeFile(path, 'film');
    const { size, mtimeMs } = await stat(path);
    const sha256 = createHash('sha256').update('film').digest('hex');
    const place = { name: 'film.png', path, size, mtimeMs };
    const film = {
      id: 'f'.repeat(32),
      candidate: place,
      origin: { ...place, source: 'watch', sha256, receivedAt: new Date(0).toISOString() },
    };
    const letters = new DeadLetter(dir, 'graph', pool);
    const sinks = Array.from({ length: 8 }, (_, i) => `sink-${String(i)}`);
    await Promise.all(
      sinks.map((component) => letters.keep(film, { code: 'FRAME_SINK', component, message: 'no' })),
    );
    const [letter, ...others] = await listEntries(dir);
    expect(others).to.deep.equal([]);
    expect(letter?.stage).to.equal('sink-7');
    expect(await readFile(letter?.kept ?? '', 'utf8')).to.equal('film');
    expect(await readdir(letters.dir)).to.deep.equal([film.id]);

    await Promise.all([
      letters.keep(film, { code: 'FRAME_SINK', component: 'csv', message: 'no' }),
      letters.forget(film.id),
    ]);
    expect(await readdir(letters.dir)).to.deep.equal([]);
  });
});
