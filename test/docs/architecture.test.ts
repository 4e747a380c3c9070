import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { expect } from 'chai';

describe('docs/architecture.md', () => {
  it('walks a film through functions that exist, in the files that it names, in at most twelve steps', async () => {
    const text = await readFile('docs/architecture.md', 'utf8');
    const steps = [...text.matchAll(/^\| (\d+) +\|.*\| `(#?\w+)` +\| `(src\/[^`]+)` +\|$/gm)];
    expect(steps.map(([, step]) => Number(step))).to.deep.equal(steps.map((_, index) => index + 1));
    expect(steps).to.have.length.within(8, 12);
    for (const [, , name = '', file = ''] of steps) {
      const source = await readFile(file, 'utf8');
      const declared = new RegExp(`^ *(export )?(default )?(async )?(function )?${name}\\(`, 'm');
      expect(source, `${name} in ${file}`).to.match(declared);
    }
  });

  it('names the folders inside core, and the rules that the linter checks', async () => {
    const text = await readFile('docs/architecture.md', 'utf8');
    const { forbidden } = createRequire(import.meta.url)('../../.dependency-cruiser.cjs') as {
      forbidden: { name: string; comment?: string }[];
    };
    const rules = forbidden.flatMap(({ name, comment = '' }) => {
      const [, folder] = /^core-(\w+)-imports$/.exec(name) ?? [];
      return folder === undefined || folder === 'shared' ? [] : [{ folder, comment }];
    });
    expect(rules).to.have.length.above(8);
    for (const { folder, comment } of rules) {
      const [, may = ''] = new RegExp(`^\\| \`${folder}\` +\\|[^|]*\\|([^|]*)\\|$`, 'm').exec(text) ?? [];
      const allowed = comment.replace(/^.* may import the shared files of src\/core(, )?/, '');
      const said = { 'shared files': '', 'all of the parts below': allowed }[may.trim()] ?? may.trim();
      expect(said, folder).to.equal(allowed);
    }
  });
});
