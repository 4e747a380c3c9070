import { expect } from 'chai';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lintFile } from '../../src/cli/lint.js';
import { toyClassifier } from '../support/bundles.js';

describe('rxray lint', () => {
  let folder: string;
  before(() => (folder = mkdtempSync(join(tmpdir(), 'rxray-lint-'))));
  after(() => {
    rmSync(folder, { recursive: true });
  });
  const file = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const graph = (stage: string): string =>
    `version: 1\nsources:\n  - use: watch\n    with: { path: ./inbox }\nstages:\n  - use: decode\n  - use: ${stage}\nsinks:\n  - use: console\n`;

  it('says that a file is fine, and counts', async () => {
    const path = file('good.yaml', graph('clahe'));
    expect(await lintFile(path)).to.deep.equal({
      code: 0,
      text: `${path} is fine: 1 source, 2 stages, 1 sink`,
    });
  });

  it('shows errors with line and caret, and exits with 2', async () => {
    const path = file('bad.yaml', graph('clahhe'));
    const { code, text } = await lintFile(path);
    expect(code).to.equal(2);
    expect(text.split('\n').slice(1)).to.deep.equal([
      '  7 │   - use: clahhe',
      '    │          ^^^^^^',
      '',
      '1 error',
    ]);
  });

  it('reports a missing bundle where it is named', async () => {
    const { code, text } = await lintFile(
      file('missing.yaml', graph('resnet\n    with: { bundle: ./none }')),
    );
    expect(code).to.equal(2);
    expect(text).to.match(/missing\.yaml:8:21 error BUNDLE_NOT_FOUND .*none/);
  });

  it('warns at each stage that differs from training, in the order of the file', async () => {
    const preprocessing = [
      { use: 'decode', with: { color: 'grey' } },
      { use: 'resize', with: { width: 32, height: 32 } },
      { use: 'invert', with: {} },
      { use: 'blur', with: {} },
    ];
    await toyClassifier(join(folder, 'toy'), { preprocessing });
    const stages =
      '\n    with: { color: keep }\n  - use: clahe\n  - use: resize\n    with: { width: 32, height: 32 }';
    const path = file(
      'skew.yaml',
      graph('resnet\n    with: { bundle: ./toy }').replace('decode', `decode${stages}`),
    );
    const { code, text } = await lintFile(path);
    expect(code).to.equal(0);
    const warned = 'warning CONFIG_PREPROCESSING other preprocessing than in training:';
    expect(text.split('\n').filter((line) => line.includes('warning '))).to.deep.equal([
      `${path}:7:20 ${warned} decode.color is "keep" here and was "grey" for "toy"`,
      `${path}:8:10 ${warned} "toy" was trained without \`clahe\` (or with it in another order)`,
      `${path}:11:10 ${warned} "toy" was trained after \`invert\`, which is missing here (or is in another order)`,
      `${path}:11:10 ${warned} "toy" was trained after \`blur\`, which is missing here (or is in another order)`,
    ]);
    const { issues } = JSON.parse((await lintFile(path, { json: true })).text) as {
      issues: { location: { line: number } }[];
    };
    expect(issues.map(({ location }) => location.line)).to.deep.equal([7, 8, 11, 11]);
  });

  it('lists the films that a run would take, and changes nothing', async () => {
    const path = file('dry.yaml', graph('clahe').replace('./inbox', './dry'));
    mkdirSync(join(folder, 'dry', 'ward'), { recursive: true });
    for (const name of ['ward/a.png', 'b.dcm', 'notes.txt']) file(`dry/${name}`, 'x');
    const before = readdirSync(folder);
    const { code, text } = await lintFile(path, { dryRun: true });
    expect(code).to.equal(0);
    const [, ...lines] = text.split('\n');
    expect(lines.at(-1)).to.equal('a run would take 2 films, 1 left alone because they are not images');
    expect(lines.slice(0, -1).sort()).to.deep.equal(['  b.dcm', '  ward/a.png']);
    expect(readdirSync(folder)).to.deep.equal(before);
    const { films } = JSON.parse((await lintFile(path, { dryRun: true, json: true })).text) as {
      films: object[];
    };
    expect(films).to.deep.include({ source: 'watch', file: 'b.dcm', bytes: 1, status: 'new' });
  });

  const refused: Readonly<Record<string, readonly [string, string]>> = {
    'a stage that needs pixels without `decode` before it, once': [
      'sources: [{ use: watch, with: { path: in } }]\nstages: [{ use: clahe }, { use: equalize }]\nsinks: [{ use: console }]',
      '3:10 error CONFIG_REFUSED `clahe` needs the pixels of the film, which no stage before it decodes: put `use: decode` before it',
    ],
    'a sink that writes pictures without `decode` before it': [
      'sources: [{ use: watch, with: { path: in } }]\nsinks: [{ use: folder, with: { path: out } }]',
      '3:9 error CONFIG_REFUSED `folder` needs the pixels of the film',
    ],
    'an archive that is the watched folder': [
      'sources: [{ use: watch, with: { path: in, onDone: move, moveTo: ./in/ } }]\nsinks: [{ use: console }]',
      '2:65 error CONFIG_REFUSED',
    ],
    'a batch of what takes films one by one': [
      'sources: [{ use: watch, with: { path: in } }]\nstages: [{ use: decode, batch: {} }]\nsinks: [{ use: console }]',
      '3:25 error CONFIG_INVALID',
    ],
    'a column that does not parse': [
      'sources: [{ use: watch, with: { path: in } }]\nsinks: [{ use: csv, with: { path: a.csv, columns: [file, { name: x, value: 1 + }] } }]',
      '3:76 error CONFIG_EXPRESSION',
    ],
    'a field that does not parse': [
      'sources: [{ use: watch, with: { path: in } }]\nsinks: [{ use: webhook, with: { url: "https://a.example", fields: { x: 1 + } } }]',
      '3:72 error CONFIG_EXPRESSION',
    ],
    'a password in an address': [
      'sources: [{ use: watch, with: { path: in } }]\nsinks: [{ use: webhook, with: { url: "https://a:b@a.example" } }]',
      '3:38 error CONFIG_REFUSED',
    ],
    'a secret that is no key': [
      'sources: [{ use: watch, with: { path: in } }]\nsinks: [{ use: webhook, with: { url: "https://a.example", secret: "?" } }]',
      '3:67 error CONFIG_REFUSED',
    ],
    'a header that is none': [
      'sources: [{ use: watch, with: { path: in } }]\nsinks: [{ use: webhook, with: { url: "https://a.example", headers: { "a b": c } } }]',
      '3:77 error CONFIG_REFUSED',
    ],
  };
  for (const [what, [lines, message]] of Object.entries(refused)) {
    it(`finds ${what}`, async () => {
      const { code, text } = await lintFile(file('refused.yaml', `version: 1\n${lines}\n`));
      expect(text).to.contain(message).and.contain('\n1 error');
      expect(code).to.equal(2);
    });
  }

  it('accepts a stage of the user that may decode, and a sink that writes no pictures', async () => {
    writeFileSync(
      join(folder, 'raw.mjs'),
      `import { defineStage, z } from 'rxray';
      export default defineStage({
        name: 'raw', summary: 'Decodes raw files.', options: z.strictObject({}), create: () => ({ process: (frame) => frame }),
      });`,
    );
    const lines =
      'sources: [{ use: watch, with: { path: in } }]\nstages: [{ use: ./raw.mjs }, { use: clahe }]\nsinks: [{ use: folder, with: { path: out } }, { id: plain, use: folder, from: watch, with: { path: plain, picture: false } }]';
    const { code, text } = await lintFile(file('raw.yaml', `version: 1\n${lines}\n`));
    expect(code, text).to.equal(0);
  });

  it('prints the same as JSON, too', async () => {
    const path = file('json.yaml', graph('clahhe'));
    const { code, text } = await lintFile(path, { json: true });
    const report = JSON.parse(text) as { issues: { message: string }[] };
    expect(code).to.equal(2);
    expect(report).to.deep.equal({
      file: path,
      fine: false,
      issues: [
        {
          severity: 'error',
          code: 'CONFIG_UNKNOWN_PLUGIN',
          message: report.issues[0]?.message,
          location: { line: 7, column: 10 },
          length: 6,
        },
      ],
    });
  });
});
