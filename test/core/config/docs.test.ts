import { expect } from 'chai';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { builtInRegistry } from '../../../src/host/builtins.js';
import { formatIssues } from '../../../src/core/config/format.js';
import { loadPipeline, parsePipeline } from '../../../src/core/config/load.js';

const root = new URL('../../../', import.meta.url);
const env = { WEBHOOK_URL: 'https://ris.example.org/rxray' };

describe('the pipelines that people copy', () => {
  it('are valid in the docs', async () => {
    const page = readFileSync(new URL('docs/pipeline.md', root), 'utf8');
    const blocks = [...page.matchAll(/```yaml\n([^]*?)```/g)].map(([, text]) => text ?? '');
    const pipelines = blocks.filter((text) => /^version: 1$/m.test(text));
    expect(pipelines).to.have.length(4);
    for (const text of pipelines) {
      const file = fileURLToPath(new URL('pipeline.yaml', root));
      const { issues } = await parsePipeline(text, { file, registry: builtInRegistry(), env, lint: false });
      expect(formatIssues(issues, { file, text })).to.equal('');
    }
  });

  const examples = readdirSync(new URL('examples/', root)).filter((name) => name.endsWith('.yaml'));
  for (const path of ['pipeline.yaml', ...examples.map((name) => `examples/${name}`)]) {
    it(`are valid in ${path}`, async () => {
      const file = fileURLToPath(new URL(path, root));
      const { issues, text } = await loadPipeline(file, builtInRegistry(), { env, lint: false });
      expect(formatIssues(issues, { file, text })).to.equal('');
    });
  }
});
