import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { makePrivate } from '../../src/core/private-folder.js';
import { testServices } from '../../src/testing.js';

describe('the state folder', function () {
  let folder: string;
  before(function () {
    if (process.platform === 'win32') this.skip();
  });
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-state-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function prepare(): Promise<{ mode: number; logged: string }> {
    const { log, logged, cleanup } = testServices();
    await makePrivate(join(folder, 'state'), log);
    cleanup();
    return { mode: (await stat(join(folder, 'state'))).mode & 0o777, logged: logged.join() };
  }

  it('is accessible only to its owner', async () => {
    expect(await prepare()).to.deep.equal({ mode: 0o700, logged: '' });
  });

  it('is closed to others if it existed before, empty or with files of rxray', async () => {
    await mkdir(join(folder, 'state/deadletter'), { recursive: true });
    for (const name of ['journal.db', 'journal.db-wal', 'csv-0123456789abcdef.jsonl']) {
      await writeFile(join(folder, 'state', name), '');
    }
    await chmod(join(folder, 'state'), 0o755);
    expect(await prepare()).to.deep.equal({ mode: 0o700, logged: '' });
  });

  it('stays open if it has files of others, with a warning, and new files in it are closed', async () => {
    await mkdir(join(folder, 'state'), { mode: 0o755 });
    await writeFile(join(folder, 'state/theirs.txt'), '');
    const { mode, logged } = await prepare();
    expect(mode).to.equal(0o755);
    expect(logged).to.contain('other users can list the state folder');
    for (const name of await readdir(join(folder, 'state'))) {
      const { mode: inner } = await stat(join(folder, 'state', name));
      if (name !== 'theirs.txt') expect(inner & 0o077, name).to.equal(0);
    }
  });
});
