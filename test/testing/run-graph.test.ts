import { expect } from 'chai';
import { PipelineError } from '../../src/index.js';
import { runGraph } from '../../src/testing.js';
import { film } from '../support/films.js';
import { Lab } from '../support/lab.js';

const GRAPH = `
version: 1
sources: [{ use: watch, with: { path: ./inbox } }]
stages:
  - use: decode
  - { id: anomaly, use: clahe }
sinks:
  - { use: csv, with: { path: ./out.csv } }
  - { id: alarm, use: console, when: results.anomaly.percentile > 99 }
`;

describe('runGraph', () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open('', { 'good.png': await film().png().toBuffer(), 'bad.png': 'not a film' });
  });
  after(() => lab.close());

  it('returns the outcome of each film, with mocked stages, and delivers nothing', async () => {
    const films = [{ path: lab.path('bad.png') }, { path: lab.path('good.png') }];
    const mocks = { anomaly: { result: { kind: 'anomaly', percentile: 99.5 } } };
    const [bad, good] = await runGraph(GRAPH, films, { baseDir: lab.folder, mocks });
    expect(bad?.failure?.message).to.contain('none of PNG');
    expect(bad?.sinks).to.deep.equal([]);
    expect(good?.frame?.results).to.deep.equal({ anomaly: mocks.anomaly.result });
    expect(good?.sinks).to.deep.equal(['csv', 'alarm']);
    expect(await lab.delivered()).to.deep.equal([]);
  });

  it('shows what is wrong with the text', async () => {
    const refused = await runGraph(GRAPH.replace('use: clahe', 'use: clahee'), []).catch((e: unknown) => e);
    expect(refused)
      .to.be.instanceOf(PipelineError)
      .with.property('message')
      .that.matches(/line 6.*clahe/);
  });
});
