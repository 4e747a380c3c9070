import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { parse } from 'yaml';
import { film } from './support/films.js';
import { GRAPH, Lab } from './support/lab.js';

describe('README', () => {
  let readme: string;
  const block = (language: string): string =>
    new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 's').exec(readme)?.[1] ?? '';

  before(async () => {
    readme = await readFile('README.md', 'utf8');
  });

  it('shows the graph that npm start runs', async () => {
    expect(parse(block('yaml'))).to.deep.equal(parse(await readFile('pipeline.yaml', 'utf8')));
  });

  it('shows a stage that works unchanged', async () => {
    const lab = await Lab.open(GRAPH.replace('use: clahe', 'use: ./stages/invert.ts'), {
      'stages/invert.ts': block('ts'),
      'inbox/good.png': await film().png().toBuffer(),
    });
    try {
      const { code, stderr } = await lab.run();
      expect(code, stderr).to.equal(0);
      expect(await lab.delivered()).to.deep.equal(['good.png']);
    } finally {
      await lab.close();
    }
  });

  it('links only to files that exist', async () => {
    const links = [...readme.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, path = '']) => path);
    expect(links).to.not.be.empty;
    for (const path of links) await readFile(path);
  });
});
