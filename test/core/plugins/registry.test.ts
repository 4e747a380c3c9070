import { expect } from 'chai';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { RxrayError } from '../../../src/core/errors.js';
import { loadPluginModule } from '../../../src/core/plugins/load.js';
import { registry } from '../config/registry.js';

const STAGE = `defineStage({
  name: 'invert',
  summary: 'Inverts.',
  options: z.strictObject({ amount: z.number().default(1) }),
  create: () => ({ process: (frame) => frame }),
})`;

describe('the plugin registry', () => {
  /** A user's folder, without node_modules of its own. */
  let folder: string;
  before(() => (folder = mkdtempSync(join(tmpdir(), 'rxray-plugins-'))));
  after(() => {
    rmSync(folder, { recursive: true });
  });

  const write = (path: string, contents: string): void => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), contents);
  };
  const refused = async (use: string, kind: 'source' | 'stage' | 'sink' = 'stage'): Promise<string> => {
    try {
      await registry.load(kind, use, folder);
    } catch (error) {
      expect(error).to.be.instanceOf(RxrayError);
      const { code, message } = error as RxrayError;
      return `${code} ${message.replaceAll(`${folder}/`, '')}`;
    }
    throw new Error(`${use} was accepted`);
  };

  it('loads a built-in plugin by its name', async () => {
    const { plugin, url } = await registry.load('stage', 'blur', folder);
    expect(plugin.name).to.equal('blur');
    expect(url).to.match(/^file:.*blur\.ts$/);
  });

  it('loads TypeScript from any folder, which may import rxray, zod and rxjs without installing them', async () => {
    write('stages/helper.ts', 'export const half = (x: number): number => x / 2;');
    write(
      'stages/invert.ts',
      `import { defineStage, RxrayError, type Frame } from 'rxray';
       import { z } from 'zod';
       import { map } from 'rxjs';
       import { half } from './helper.js';
       enum Direction { up, down }
       const keep = (frame: Frame): Frame => frame;
       export const HostError = RxrayError;
       export default { ...${STAGE}, version: \`\${half(4)}.\${Direction.down}.0\`, operator: map(keep) };`,
    );
    const { plugin, url } = await registry.load('stage', './stages/invert.ts', folder);
    expect(plugin).to.include({ name: 'invert', version: '2.1.0' });
    expect(plugin.options.parse({})).to.deep.equal({ amount: 1 });
    expect(await loadPluginModule(url)).to.include({ name: 'invert' });
  });

  it('loads JavaScript, by a relative or an absolute path or an address', async () => {
    const text = `import { defineStage, z } from 'rxray';\nexport default ${STAGE};`;
    write('invert.js', text);
    write('invert.mjs', text);
    const uses = [
      './invert.js',
      './invert.mjs',
      join(folder, 'invert.js'),
      pathToFileURL(join(folder, 'invert.mjs')).href,
    ];
    for (const use of uses)
      expect((await registry.load('stage', use, folder)).plugin.name).to.equal('invert');
  });

  it('loads an installed package, scoped or not, ES module or CommonJS', async () => {
    const text = `import { defineStage, z } from 'rxray';\nexport default ${STAGE};`;
    write(
      'node_modules/rxray-plugin-invert/package.json',
      '{ "type": "module", "exports": { "import": "./lib/main.js" } }',
    );
    write('node_modules/rxray-plugin-invert/lib/main.js', text);
    write('node_modules/@ward/invert/package.json', '{ "main": "main.cjs" }');
    write(
      'node_modules/@ward/invert/main.cjs',
      `const { defineStage, z } = require('rxray');\nexports.default = ${STAGE};`,
    );
    for (const use of ['rxray-plugin-invert', '@ward/invert']) {
      expect((await registry.load('stage', use, folder)).plugin.name).to.equal('invert');
    }
  });

  it('finds a plugin of any kind', async () => {
    expect((await registry.loadAny('table', folder)).plugin.kind).to.equal('sink');
  });

  it('refuses what does not exist', async () => {
    expect(await refused('blr')).to.equal(
      'CONFIG_UNKNOWN_PLUGIN no stage `blr` is built in (blur, score-it) or installed as a package, did you mean `blur`?',
    );
    expect(await refused('./none.ts')).to.equal('CONFIG_UNKNOWN_PLUGIN there is no plugin file at none.ts');
    expect(await refused('toString')).to.match(/^CONFIG_UNKNOWN_PLUGIN/);
    expect(await refused('fs')).to.match(/^CONFIG_UNKNOWN_PLUGIN/);
  });

  it('refuses a plugin of another kind', async () => {
    const advice = '`blur` is a stage, not a sink: it belongs under `stages:`';
    expect(await refused('blur', 'sink')).to.equal(`CONFIG_UNKNOWN_PLUGIN ${advice}`);
  });

  const broken: Readonly<Record<string, readonly [string, RegExp]>> = {
    'throws while it loads': [
      'throw new Error("no luck")',
      /^CONFIG_PLUGIN_BROKEN broken\.ts cannot be loaded: no luck$/,
    ],
    'throws no error but a string': ['throw "no luck"', /cannot be loaded: no luck$/],
    'is not TypeScript': [
      'export default {',
      /^CONFIG_PLUGIN_BROKEN broken\.ts cannot be loaded: .*Unexpected token/s,
    ],
    'imports what is not there': [
      'import "./nowhere.js"',
      /cannot be loaded: Cannot find module '\.\/nowhere\.js'/,
    ],
    'exports nothing': [
      'export {}',
      /exports no plugin: expected `export default defineStage\(\{ … \}\)` .* got no default export$/,
    ],
    'exports something else': [
      'export default { name: "x" }',
      /exports no plugin: .* got an object with name$/,
    ],
    'speaks another contract': [
      `import { defineStage, z } from 'rxray'; export default { ...${STAGE}, contract: 2 }`,
      /^CONFIG_PLUGIN_INCOMPATIBLE `\.\/broken\.ts` is for version 2 of the plugin contract, this host has version 1$/,
    ],
    'was made for another host': [
      `import { defineStage, z } from 'rxray'; export default { ...${STAGE}, rxray: '^99.0.0' }`,
      /^CONFIG_PLUGIN_INCOMPATIBLE `\.\/broken\.ts` works with rxray \^99\.0\.0, this is \d+\.\d+\.\d+/,
    ],
    'has a version that is none': [
      `import { defineStage, z } from 'rxray'; export default { ...${STAGE}, version: 'new' }`,
      /^CONFIG_PLUGIN_BROKEN `\.\/broken\.ts` has the version `new`: expected one as in npm, such as 1\.2\.3$/,
    ],
    'asks for a host version that is none': [
      `import { defineStage, z } from 'rxray'; export default { ...${STAGE}, rxray: 'latest' }`,
      /^CONFIG_PLUGIN_BROKEN `\.\/broken\.ts` works with rxray `latest`: expected a range as in npm, such as \^\d/,
    ],
    'has a name that is none': [
      `import { defineStage, z } from 'rxray'; export default { ...${STAGE}, name: 'My Stage' }`,
      /^CONFIG_PLUGIN_BROKEN `\.\/broken\.ts` is named `My Stage`: expected a name in kebab-case$/,
    ],
    'needs services in a worker thread': [
      `import { defineStage, z } from 'rxray'; export default { ...${STAGE}, needs: { date: Date } }`,
      /^CONFIG_PLUGIN_BROKEN `\.\/broken\.ts` needs services, which only stages on the main thread get: declare `runsIn: 'main'`$/,
    ],
    'is a sink': [
      `import { defineStage, z } from 'rxray'; export default { ...${STAGE}, kind: 'sink' }`,
      /^CONFIG_PLUGIN_BROKEN `\.\/broken\.ts` is a sink, not a stage: it belongs under `sinks:`$/,
    ],
  };
  for (const [what, [contents, message]] of Object.entries(broken)) {
    it(`refuses a module that ${what}`, async () => {
      rmSync(join(folder, 'broken.ts'), { force: true });
      const own = mkdtempSync(join(folder, 'broken-'));
      const former = folder;
      folder = own;
      try {
        write('broken.ts', contents);
        expect(await refused('./broken.ts')).to.match(message);
      } finally {
        folder = former;
      }
    });
  }

  it('keeps the error that a module threw as the cause', async () => {
    write('throws.ts', 'throw new TypeError("no luck")');
    const error = await registry.load('stage', './throws.ts', folder).catch((reason: unknown) => reason);
    expect((error as Error).cause).to.have.property('message', 'no luck');
  });
});
