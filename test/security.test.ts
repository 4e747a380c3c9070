import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { builtInRegistry } from '../src/host/builtins.js';
import { parsePipeline } from '../src/core/config/load.js';
import { Receiver } from './sinks/receiver.js';
import { film } from './support/films.js';
import { toyClassifier } from './support/bundles.js';
import { GRAPH, Lab, rxray } from './support/lab.js';

const root = new URL('../', import.meta.url);
const read = (path: string): Promise<string> => readFile(new URL(path, root), 'utf8');

describe('docs/security.md', () => {
  it('names a test for every promise, and all of them exist', async () => {
    const page = await read('docs/security.md');
    const rows = page.split('\n').filter((line) => /^\| (?!promise|-)/.test(line));
    expect(rows).to.have.length.above(20);
    for (const row of rows) {
      const [, path = '', title = ''] = /`(test\/[^`]+)`: (.+?) *\|$/.exec(row) ?? [];
      expect(title, row).not.to.equal('');
      expect(await read(path), path).to.contain(title);
    }
  });
});

describe('a hostile pipeline file', () => {
  const issuesOf = async (text: string): Promise<string[]> => {
    const file = fileURLToPath(new URL('pipeline.yaml', root));
    const { issues, pipeline } = await parsePipeline(text, {
      file,
      registry: builtInRegistry(),
      env: {},
      lint: false,
    });
    expect(pipeline === undefined || issues.every(({ severity }) => severity === 'warning')).to.equal(true);
    return issues.map(({ code }) => code);
  };
  const graph = (extra: string): string =>
    `version: 1\nsources: [{ use: watch, with: { path: in } }]\nsinks: [{ use: console }]\n${extra}`;

  it('runs no code and creates no objects by tags and special keys', async () => {
    const global = globalThis as { hacked?: true; polluted?: true };
    for (const extra of [
      'name: !!js/function "function () { globalThis.hacked = true }"',
      'name: !!js/undefined ""',
      'name: !!python/object/apply:os.system ["touch /tmp/hacked"]',
      '__proto__: { polluted: true }',
      'constructor: { prototype: { polluted: true } }',
      '<<: { __proto__: { polluted: true } }',
      'limits: { __proto__: { frames: 1 } }',
    ]) {
      expect(await issuesOf(graph(extra)), extra).not.to.be.empty;
    }
    expect(global.hacked).to.equal(undefined);
    expect(({} as { polluted?: true }).polluted).to.equal(undefined);
  });

  it('refuses aliases that expand without bound, at once', async () => {
    const levels = Array.from({ length: 30 }, (_, i) => {
      const value = i === 0 ? 'x' : `*a${i - 1}`;
      return `a${i}: &a${i} [${Array(9).fill(value).join(', ')}]`;
    });
    const started = performance.now();
    expect(await issuesOf(graph(levels.join('\n')))).to.include('CONFIG_SYNTAX');
    expect(performance.now() - started).to.be.below(10_000);
  });
});

describe('secrets', function () {
  this.timeout(60_000);
  const SECRETS = {
    HOOK_KEY: 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    HOOK_TOKEN: 't0ken-0123',
    RXRAY_LOG: 'debug',
  };
  let lab: Lab;
  let receiver: Receiver;

  before(async () => {
    receiver = await Receiver.listen();
    Object.assign(process.env, SECRETS, { HOOK_URL: receiver.url });
    lab = await Lab.open(
      `${GRAPH}  - use: webhook
    retry: { giveUpAfterMs: 0 }
    with:
      url: '\${HOOK_URL}'
      secret: '\${HOOK_KEY}'
      headers: { authorization: 'Bearer \${HOOK_TOKEN}' }
`,
      {
        'inbox/a.png': await film(64, 48).png().toBuffer(),
        'inbox/b.png': await film(48, 64).png().toBuffer(),
      },
    );
  });
  after(async () => {
    for (const name of [...Object.keys(SECRETS), 'HOOK_URL']) Reflect.deleteProperty(process.env, name);
    await lab.close();
    await receiver.close();
  });

  it('are in nothing that a run prints, logs or keeps', async () => {
    receiver.answer(422).answer(302, { location: receiver.url });
    const said: string[] = [];
    const pipeline = lab.path('pipeline.yaml');
    for (const args of [
      ['lint', pipeline, '--json'],
      ['graph', pipeline],
      ['run', pipeline, '--once', '--json'],
    ]) {
      const { stdout, stderr } = await rxray(...args);
      said.push(stdout, stderr);
    }
    expect(receiver.requests[0]?.headers.authorization).to.equal('Bearer t0ken-0123');
    for (const name of await readdir(lab.folder, { recursive: true })) {
      if (/pipeline\.yaml$|inbox|\.png$/.test(name)) continue;
      said.push(await readFile(join(lab.folder, name), 'latin1').catch(() => ''));
    }
    const text = said.join('\n');
    expect(text).to.contain('FRAME_SINK');
    for (const secret of ['MfKQ9r8', 't0ken', 's3cret-path']) expect(text).not.to.contain(secret);
  });
});

describe('the libraries', () => {
  it('keep nothing in the home folder, such as the identifier of a telemetry', async () => {
    const stages = `stages:
  - use: decode
  - { use: resize, with: { width: 32, height: 32 } }
  - { use: resnet, with: { bundle: ./classifier } }
`;
    const lab = await Lab.open(GRAPH.replace(/stages:[^]*(?=sinks:)/, stages));
    try {
      await toyClassifier(lab.path('classifier'));
      await lab.write('home/.keep', '');
      await lab.write('inbox/a.png', await film().png().toBuffer());
      const env = { HOME: lab.path('home'), XDG_CACHE_HOME: '', ORT_DISABLE_TELEMETRY: undefined };
      const { code, stderr } = await lab.start(['--once'], { env }).ended();
      expect(code, stderr).to.equal(0);
      expect(await lab.delivered()).to.deep.equal(['a.png']);
      expect(await readdir(lab.path('home'))).to.deep.equal(['.keep']);
    } finally {
      await lab.close();
    }
  }).timeout(60_000);
});

describe('dependencies', () => {
  interface Faults {
    licences: string[];
    versions: string[];
  }
  let faultsOf: (manifest: unknown, lock: unknown) => Faults;
  let manifest: { dependencies: Record<string, string> };
  let lock: { packages: Record<string, Record<string, unknown>> };

  before(async () => {
    ({ faultsOf } = (await import(new URL('scripts/licences.mjs', root).href)) as {
      faultsOf: typeof faultsOf;
    });
    manifest = JSON.parse(await read('package.json')) as typeof manifest;
    lock = JSON.parse(await read('package-lock.json')) as typeof lock;
  });

  it('are pinned by hash, come from the registry, and are permissively licensed', () => {
    expect(faultsOf(manifest, lock)).to.deep.include({ licences: [], versions: [] });
  });

  it('are each in docs/security.md, with what they are for', async () => {
    const list = /The direct dependencies[^]*?\n\n`/.exec(await read('docs/security.md'))?.[0] ?? '';
    const named = [...list.matchAll(/^- `([^`]+)`: \S/gm)].map(([, name]) => name);
    expect(named).to.deep.equal(Object.keys(manifest.dependencies));
  });

  it('are refused from elsewhere, without a hash, in an open range, or under another licence', () => {
    const withEntry = (change: object): Faults => {
      const { rxjs = {} } = { rxjs: lock.packages['node_modules/rxjs'] };
      const packages = { ...lock.packages, 'node_modules/rxjs': { ...rxjs, ...change } };
      return faultsOf(manifest, { packages });
    };
    expect(withEntry({ integrity: undefined }).versions).to.have.lengthOf(1);
    expect(withEntry({ integrity: 'sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=' }).versions).to.have.lengthOf(1);
    expect(withEntry({ resolved: 'git+ssh://git@example.org/rxjs.git#abc' }).versions).to.have.lengthOf(1);
    expect(withEntry({ license: 'GPL-3.0-only' }).licences).to.have.lengthOf(1);
    expect(withEntry({ license: undefined }).licences).to.have.lengthOf(1);
    for (const range of [
      '*',
      'latest',
      '>=7',
      'git+https://example.org/a.git',
      'file:../a',
      'https://a.example/a.tgz',
    ]) {
      const dependencies = { ...manifest.dependencies, rxjs: range };
      expect(faultsOf({ ...manifest, dependencies }, lock).versions, range).to.have.lengthOf(1);
    }
  });
});
