import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { parsePipeline } from '../../src/core/config/load.js';
import { builtInRegistry } from '../../src/host/builtins.js';

describe('the tutorial', () => {
  it('has a graph that works unchanged, in the place that it names', async () => {
    const text = await readFile('docs/tutorial.md', 'utf8');
    const [, block = ''] = /## 5\.[^#]*?```yaml\n([^`]+)```/.exec(text) ?? [];
    const template = await readFile('templates/pipeline/example-pipeline.yaml', 'utf8');
    const pasted = template.slice(0, template.indexOf('stages:')) + block;
    const { pipeline, issues } = await parsePipeline(pasted, {
      file: 'ward.yaml',
      registry: builtInRegistry(),
    });
    expect(issues).to.deep.equal([]);
    expect(pipeline?.stages.map(({ id }) => id)).to.deep.equal([
      'decode',
      'clahe',
      'resize',
      'equalize',
      'classes',
    ]);
  });
});
