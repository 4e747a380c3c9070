import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import type { Candidate } from '../../../src/core/plugin.js';
import { WorkerPool } from '../../../src/core/workers/pool.js';
import { makeFrame } from '../../../src/testing.js';
import { counting } from '../support/counting.js';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

describe('a file that is read in a worker thread', () => {
  let folder: string;
  let pool: WorkerPool;

  before(() => {
    pool = new WorkerPool(silent, 1);
  });
  after(() => pool.dispose());
  beforeEach(async () => {
    folder = await realpath(await mkdtemp(join(tmpdir(), 'rxray-read-')));
    await mkdir(join(folder, 'inbox', 'ward'), { recursive: true });
    await mkdir(join(folder, 'secret'));
    await writeFile(join(folder, 'inbox/ward/film'), 'film');
    await writeFile(join(folder, 'secret/film'), 'hush');
  });
  afterEach(() => rm(folder, { recursive: true }));

  /** The file as it was offered. */
  async function candidate(name: string): Promise<Candidate> {
    const path = join(folder, 'inbox', name);
    const { size, mtimeMs } = await stat(path);
    return { path, name, size, mtimeMs, within: join(folder, 'inbox') };
  }
  const read = async (offered: Candidate): Promise<string> => {
    try {
      const reply = await pool.read(offered, 1000);
      return reply === null ? 'changed' : Buffer.from(reply.encoded).toString();
    } catch (error) {
      return (error as { code: string }).code;
    }
  };

  it('is read if it is in its folder, also by a link inside', async () => {
    await symlink('ward/film', join(folder, 'inbox/link'));
    expect(await read(await candidate('ward/film'))).to.equal('film');
    expect(await read(await candidate('link'))).to.equal('film');
  });

  it('is only hashed if its bytes are not needed, also if it is larger than the buffer', async () => {
    const bytes = Buffer.alloc(2_500_000, 'film');
    await writeFile(join(folder, 'inbox/large'), bytes);
    const large = await candidate('large');
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    expect(await pool.hash(large, bytes.length))
      .to.include({ sha256 })
      .and.not.have.property('encoded');
    expect((await pool.read(large, bytes.length))?.sha256).to.equal(sha256);
    expect(await pool.hash({ ...large, size: large.size + 1 }, 3_000_000)).to.equal(null);
  });

  it('is read or hashed by another thread if an earlier film ends the one that has it', async () => {
    const segment = await counting(folder);
    const offered = await candidate('ward/film');
    for (const task of [() => read(offered), async () => (await pool.hash(offered, 1000)) !== null]) {
      const endsWhen = join(folder, randomUUID());
      await pool.make(segment('a', { a: { endsWhen, waitMs: 0 } }), makeFrame({ image: null }));
      const reply = task();
      await setImmediate();
      await writeFile(endsWhen, '');
      expect(await reply).to.be.oneOf(['film', true]);
    }
  });

  it('is refused if a link out of the folder has replaced it since it was offered', async () => {
    const offered = await candidate('ward/film');
    await rm(offered.path);
    await symlink(join(folder, 'secret/film'), offered.path);
    expect(await read(offered)).to.equal('FRAME_OUTSIDE');
  });

  it('is refused if a link has replaced a folder of its path', async () => {
    const offered = await candidate('ward/film');
    await rename(join(folder, 'inbox/ward'), join(folder, 'elsewhere'));
    await symlink(join(folder, 'secret'), join(folder, 'inbox/ward'));
    expect(await read(offered)).to.equal('FRAME_OUTSIDE');
  });

  it('does not block the thread if a pipe has replaced it', async function () {
    if (process.platform === 'win32') return this.skip();
    const offered = await candidate('ward/film');
    await rm(offered.path);
    execFileSync('mkfifo', [offered.path]);
    expect(await read(offered)).to.equal('changed');
  });
});
