import { expect } from 'chai';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lintFile } from '../../src/cli/lint.js';

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

  it('says all that as JSON, too', async () => {
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
