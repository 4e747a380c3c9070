import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { DeadLetter } from '../../src/core/dead-letter.js';
import { discardEntry, listEntries } from '../../src/core/dead-letter-entries.js';
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

  async function filmOf(name: string, id: string): Promise<Parameters<DeadLetter['keep']>[0]> {
    const path = join(dir, 'film.png');
    await writeFile(path, 'film');
    const { size, mtimeMs } = await stat(path);
    const sha256 = createHash('sha256').update('film').digest('hex');
    const place = { name, path, size, mtimeMs };
    const origin = { ...place, source: 'watch', sha256, receivedAt: new Date(0).toISOString() };
    return { id, candidate: place, origin };
  }

  it('keeps a film whose name is an address longer than names of files may be', async () => {
    const name = `https://bucket.s3.amazonaws.com/film.png?X-Amz-Signature=${'é'.repeat(300)}`;
    const letters = new DeadLetter(dir, 'graph', pool);
    const film = await filmOf(name, 'b'.repeat(32));
    await letters.keep(film, { code: 'FRAME_STAGE', component: 'one', message: 'no' });
    const [letter] = await listEntries(dir);
    expect(letter?.file).to.equal(name);
    expect(await readFile(letter?.kept ?? '', 'utf8')).to.equal('film');
    await letters.forget(film.id);
  });

  it('keeps the reason of a film that is gone, with its entry, when it is refused again', async () => {
    const film = await filmOf('film.png', 'a'.repeat(32));
    const letters = new DeadLetter(dir, 'graph', pool);
    await letters.keep(film, { code: 'FRAME_SINK', component: 'one', message: 'no' });
    await rm(film.candidate.path);
    await discardEntry(dir, film.id);
    await letters.keep(film, { code: 'FRAME_SINK', component: 'two', message: 'no' });
    expect((await listEntries(dir)).map(({ stage, kept }) => [stage, kept])).to.deep.equal([['two', null]]);
    await letters.forget(film.id);
  });

  it('keeps a complete film that several sinks refuse at the same time', async () => {
    const film = await filmOf('film.png', 'f'.repeat(32));
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
