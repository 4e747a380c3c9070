import { expect } from 'chai';
import { parsePipeline } from '../../../src/core/config/load.js';
import { segmentsOf } from '../../../src/core/graph/segments.js';
import { builtInRegistry } from '../../../src/host/builtins.js';

describe('segmentsOf', () => {
  async function segments(stages: readonly object[], from: string | string[]): Promise<string[]> {
    const sinks = [from]
      .flat()
      .map((id) => ({ id: `to_${id}`, use: 'csv', from: id, with: { path: `${id}.csv` } }));
    const graph = { version: 1, sources: [{ use: 'watch', with: { path: '.' } }], stages, sinks };
    const options = { file: '/graph/pipeline.yaml', registry: builtInRegistry(), lint: false };
    const { pipeline, issues } = await parsePipeline(JSON.stringify(graph), options);
    expect(issues.filter(({ severity }) => severity === 'error')).to.deep.equal([]);
    return segmentsOf(pipeline ?? expect.fail()).map((nodes) => nodes.map(({ id }) => id).join(' '));
  }
  const resize = (id: string, host: object = {}): object => ({
    ...{ id, use: 'resize', with: { width: 8, height: 8 } },
    ...host,
  });

  it('puts stages in a chain into one segment, with their retries, failures and conditions', async () => {
    const retry = { attempts: 2 };
    const stages = [
      { use: 'decode', retry },
      { use: 'clahe', onError: 'continue', timeoutMs: 500 },
      resize('small', { when: 'meta.bits > 8.0' }),
    ];
    expect(await segments(stages, 'small')).to.deep.equal(['decode clahe small']);
  });

  it('ends a segment at a stage with several consumers, stages or sinks', async () => {
    const branches = [{ use: 'decode' }, resize('a'), resize('b', { from: 'decode' }), resize('c')];
    expect(await segments(branches, ['a', 'c'])).to.deep.equal(['decode', 'a', 'b c']);
    expect(await segments([{ use: 'decode' }, resize('a')], ['decode', 'a'])).to.deep.equal(['decode', 'a']);
  });

  it('ends it at a join, at a `concurrency:` and at a stage on the main thread', async () => {
    const joined = [
      ...[{ use: 'decode' }, resize('a'), resize('b', { from: 'decode' })],
      ...[{ use: 'join', from: ['a', 'b'] }, resize('c'), resize('d')],
    ];
    expect(await segments(joined, 'd')).to.deep.equal(['decode', 'a', 'b', 'join', 'c d']);
    const bounded = [{ use: 'decode' }, resize('a', { concurrency: 1 }), resize('b'), resize('c')];
    expect(await segments(bounded, 'c')).to.deep.equal(['decode', 'a', 'b c']);
  });
});
