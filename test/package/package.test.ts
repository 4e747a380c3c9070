import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';

/** Without the models; the browser's page, the schema and the docs are in it. */
const MAX_BYTES = 5_000_000;
const PACKAGES = ['rxray-plugin-sharpness', 'sink-postgres', 'sink-email'];

const run = promisify(execFile);

/** What somebody gets who installs the tarball of `npm pack` into an empty folder, without a checkout of ours. */
describe('the package', function () {
  this.timeout(600_000);
  let folder: string;
  let tarball: string;
  let app: string;

  before(async function () {
    if (process.env['RXRAY_TEST_PACKAGE'] !== '1') {
      console.log('      needs the registry and a minute: RXRAY_TEST_PACKAGE=1');
      this.skip();
    }
    folder = await mkdtemp(join(tmpdir(), 'rxray-package-'));
    // `npm test` has built dist/ just now.
    const packed = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]);
    const [{ filename }] = JSON.parse(packed.stdout) as [{ filename: string }];
    tarball = join(folder, filename);

    app = join(folder, 'app');
    await mkdir(join(app, 'packages'), { recursive: true });
    await writeFile(
      join(app, 'package.json'),
      JSON.stringify({ name: 'app', private: true, workspaces: ['packages/*'] }),
    );
    await npm('install', '--ignore-scripts', tarball);
  });
  after(() => (folder as string | undefined) !== undefined && rm(folder, { recursive: true }));

  /** In the folder of the app; rejects with what it printed when it fails. */
  async function inApp(
    program: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = {},
  ): Promise<string> {
    const bin = `${join(app, 'node_modules', '.bin')}${delimiter}${process.env['PATH'] ?? ''}`;
    const options = {
      cwd: app,
      env: { ...process.env, NODE_OPTIONS: '', NO_COLOR: '1', FORCE_COLOR: '0', PATH: bin, ...env },
    };
    try {
      return (await run(program, args, options)).stdout;
    } catch (error) {
      const { stdout, stderr } = error as { stdout: string; stderr: string };
      throw new Error(`${program} ${args.join(' ')}: ${stdout}${stderr}`, { cause: error });
    }
  }
  const npm = (...args: string[]): Promise<string> => inApp('npm', ['--no-audit', '--no-fund', ...args]);
  const rxray = (...args: string[]): Promise<string> => inApp('rxray', args);

  it('has clean exports and types, by publint and attw', async () => {
    await run('npx', ['publint', tarball, '--strict']);
    await run('npx', ['attw', tarball, '--profile', 'esm-only']);
  });

  it('has at most 5 MB without the models', async () => {
    await run('tar', ['-xzf', tarball, '-C', folder]);
    await run('tar', ['-czf', 'library.tgz', '--exclude', 'package/models', 'package'], { cwd: folder });
    const { size } = await stat(join(folder, 'library.tgz'));
    console.log(`      ${(size / 1e6).toFixed(2)} MB`);
    expect(size).to.be.below(MAX_BYTES);
  });

  it('answers --help, and prints how fast', async () => {
    await rxray('--help');
    const started = performance.now();
    expect(await rxray('--help')).to.contain('Usage: rxray');
    console.log(`      ${(performance.now() - started).toFixed(0)} ms`);
  });

  it('finds a pipeline, the models, the schema and the page inside of it', async () => {
    const home = join(app, 'node_modules', 'rxray');
    await rxray('lint', join(home, 'pipeline.yaml'));
    await readFile(join(home, 'schema', 'pipeline.schema.json'));
    await readFile(join(home, 'dist', 'page', 'index.html'));
    await rxray('sample', join(home, 'models', 'chest-anogan'), '--count', '2', '--out', 'inbox');
    expect(await readdir(join(app, 'inbox'))).to.have.length(2);
  });

  it('scaffolds a pipeline and a stage that lint and pass their tests', async () => {
    await rxray('new', 'pipeline', 'ward');
    await rxray('lint', 'ward.yaml');
    expect(await rxray('test', 'ward.test.yaml')).to.contain('2 passed, 0 failed');
    await rxray('new', 'stage', 'denoise');
    expect(await rxray('test', 'denoise.test.ts')).to.match(/fail 0/);
    expect(await rxray('test', 'denoise.test.yaml')).to.contain('1 passed, 0 failed');
  });

  it('runs a stage from a file', async () => {
    await cp('examples/custom-stage.yaml', join(app, 'custom-stage.yaml'));
    await cp('examples/stages', join(app, 'stages'), { recursive: true });
    await rxray('run', 'custom-stage.yaml', '--once');
    expect(await readFile(join(app, 'out', 'inverted.csv'), 'utf8')).to.contain('.png');
  });

  describe('and packages of plugins', () => {
    before(async () => {
      await rxray('new', 'package', 'rxray-plugin-scaffold', '--dir', 'packages');
      for (const name of PACKAGES) {
        await cp(join('examples', name), join(app, 'packages', name), { recursive: true });
      }
      await npm('install', '--ignore-scripts');
    });

    for (const name of ['rxray-plugin-scaffold', ...PACKAGES]) {
      it(`builds ${name}, and its tests pass`, async () => {
        const workspace = ['--workspace', join('packages', name)];
        await npm('run', 'build', ...workspace);
        expect(await npm('test', ...workspace)).to.match(/pass [1-9]\d*\n[^]*fail 0/);
      });
    }

    it('runs them by their names', async () => {
      await cp('examples/rxray-plugin-sharpness/pipeline.yaml', join(app, 'sharpness.yaml'));
      await rxray('run', 'sharpness.yaml', '--once');
      expect(await readFile(join(app, 'out', 'all.csv'), 'utf8')).to.contain('focus.variance');
      await cp('examples/sink-postgres/pipeline.yaml', join(app, 'postgres.yaml'));
      await inApp('rxray', ['lint', 'postgres.yaml'], { DATABASE_URL: 'postgresql://rxray@127.0.0.1/ward' });
    });
  });
});
