import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { rxray } from '../support/lab.js';

describe('rxray new', function () {
  // each test starts the whole program several times
  this.timeout(120_000);
  let folder: string;
  before(async () => (folder = await mkdtemp(join(tmpdir(), 'rxray-new-'))));
  after(() => rm(folder, { recursive: true }));

  const at = (file: string): string => join(folder, file);
  async function succeeds(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await rxray(...args);
    expect(code, stdout + stderr).to.equal(0);
    return stdout;
  }

  it('writes a pipeline that lints and passes its tests at once', async () => {
    await succeeds('new', 'pipeline', 'ward-3', '--dir', folder);
    await succeeds('lint', at('ward-3.yaml'));
    expect(await succeeds('test', at('ward-3.test.yaml'))).to.contain('2 passed, 0 failed');
  });

  it('writes a stage that passes its own tests and those of its graph', async () => {
    const said = await succeeds('new', 'stage', 'denoise-film', '--dir', folder);
    expect(said).to.contain(`rxray test ${at('denoise-film.test.ts')}`);
    expect(await succeeds('test', at('denoise-film.test.ts'))).to.match(/pass 10\n.*fail 0/);
    expect(await succeeds('test', at('denoise-film.test.yaml'))).to.contain('1 passed, 0 failed');
  });

  for (const kind of ['source', 'sink']) {
    it(`writes a ${kind} that passes the contract, and a graph that lints`, async () => {
      await succeeds('new', kind, `my-${kind}`, '--dir', folder);
      expect(await succeeds('test', at(`my-${kind}.test.ts`))).to.match(/pass \d+\n.*fail 0/);
      await succeeds('lint', at(`my-${kind}.yaml`));
    });
  }

  it('writes a package whose tests pass', async () => {
    await succeeds('new', 'package', 'rxray-plugin-denoise', '--dir', folder);
    const home = join(folder, 'rxray-plugin-denoise');
    const { name, scripts } = JSON.parse(await readFile(join(home, 'package.json'), 'utf8')) as {
      name: string;
      scripts: { test: string };
    };
    expect(name).to.equal('rxray-plugin-denoise');
    expect(scripts.test).to.equal('rxray test test/index.test.ts');
    expect(await succeeds('test', join(home, 'test', 'index.test.ts'))).to.match(/fail 0/);
  });

  it('overwrites nothing, and wants a name in kebab-case', async () => {
    await succeeds('new', 'source', 'again', '--dir', folder);
    const again = await rxray('new', 'source', 'again', '--dir', folder);
    expect(again.code).to.equal(2);
    expect(again.stderr).to.contain('there already, nothing was written');
    const name = await rxray('new', 'stage', 'De_noise', '--dir', folder);
    expect(name.code).to.equal(2);
    expect(name.stderr).to.contain('kebab-case');
    expect((await rxray('new', 'stagee', 'x')).code).to.equal(2);
    expect((await rxray('new')).stderr).to.contain('rxray new stage denoise');
  });
});
