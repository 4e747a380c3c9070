import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect } from 'chai';
import { specOfRxray } from '../../src/cli/new.js';
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
    expect(await succeeds('test', at('denoise-film.test.ts'))).to.match(/pass 11\n.*fail 0/);
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
    const { name, scripts, devDependencies, peerDependencies } = JSON.parse(
      await readFile(join(home, 'package.json'), 'utf8'),
    ) as {
      name: string;
      scripts: { test: string };
      devDependencies: { rxray: string };
      peerDependencies: { rxray: string };
    };
    expect(name).to.equal('rxray-plugin-denoise');
    expect(scripts.test).to.equal('rxray test test/index.test.ts');
    expect(peerDependencies.rxray).to.equal('^0.1.0');
    expect(resolve(home, devDependencies.rxray.replace('file:', ''))).to.equal(process.cwd());
    expect(await succeeds('test', join(home, 'test', 'index.test.ts'))).to.match(/fail 0/);
  });

  it('names the rxray that wrote it: its folder, its tarball, or a range of versions', async () => {
    const project = join(folder, 'project');
    const home = join(project, 'node_modules', 'rxray');
    await mkdir(home, { recursive: true });
    const lock = (resolved: string): Promise<void> =>
      writeFile(
        join(home, '..', '.package-lock.json'),
        JSON.stringify({ packages: { 'node_modules/rxray': { version: '0.1.0', resolved } } }),
      );
    const spec = (): Promise<string> => specOfRxray(join(project, 'plugin'), home);
    expect(await spec()).to.equal('file:../node_modules/rxray');
    await lock('file:../rxray.tgz');
    expect(await spec()).to.equal('file:../node_modules/rxray');
    await writeFile(join(folder, 'rxray.tgz'), '');
    expect(await spec()).to.equal('file:../../rxray.tgz');
    await lock('https://example.org/rxray-0.1.0.tgz');
    expect(await spec()).to.equal('^0.1.0');
    expect(await specOfRxray(join(folder, 'plugin'), join(folder, 'checkout'))).to.equal('file:../checkout');
  });

  it('overwrites nothing, and requires a name in kebab-case', async () => {
    await succeeds('new', 'source', 'again', '--dir', folder);
    const again = await rxray('new', 'source', 'again', '--dir', folder);
    expect(again.code).to.equal(2);
    expect(again.stderr).to.contain('already exists, nothing was written');
    const name = await rxray('new', 'stage', 'De_noise', '--dir', folder);
    expect(name.code).to.equal(2);
    expect(name.stderr).to.contain('kebab-case');
    expect((await rxray('new', 'stagee', 'x')).code).to.equal(2);
    expect((await rxray('new')).stderr).to.contain('rxray new stage denoise');
  });
});
