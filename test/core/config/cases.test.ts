import { expect } from 'chai';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { formatIssues } from '../../../src/core/config/format.js';
import { loadPipeline } from '../../../src/core/config/load.js';
import { registry } from './registry.js';

const folder = new URL('cases/', import.meta.url);

/** One folder per case: `pipeline.yaml` and what is said about it, to the letter. `UPDATE=1` writes the latter anew. */
describe('what is said about a faulty pipeline file', () => {
  for (const name of readdirSync(folder)) {
    it(name.replaceAll('-', ' '), async () => {
      const file = new URL(`${name}/pipeline.yaml`, folder).pathname;
      const { issues, text, pipeline } = await loadPipeline(file, registry, { env: { WORD: 'soon' } });
      const said = `${formatIssues(issues, { file, text })
        .replaceAll(folder.pathname, '')
        .replaceAll(/(^|\s)\S*cases\/[\w-]+\//gm, '$1')}\n`;
      const expected = new URL(`${name}/expected.txt`, folder);
      if (process.env.UPDATE === '1') writeFileSync(expected, said);
      expect(said).to.equal(readFileSync(expected, 'utf8'));
      expect(pipeline === undefined).to.equal(issues.some(({ severity }) => severity === 'error'));
    });
  }
});
