import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { formatIssues } from '../../../src/core/config/format.js';
import { parsePipeline } from '../../../src/core/config/load.js';
import { builtInRegistry } from '../../../src/host/builtins.js';

interface Graph {
  readonly watch?: string;
  readonly stages?: string;
  readonly sink: string;
  readonly top?: string;
}

/** What lint says of graphs with the built-in plugins. */
describe('a pipeline file', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-outputs-'));
    await mkdir(join(folder, 'inbox/archive'), { recursive: true });
    await symlink(join(folder, 'inbox'), join(folder, 'link'));
  });
  after(() => rm(folder, { recursive: true }));

  async function faults({
    watch = '',
    stages = '{ use: decode }',
    sink,
    top = '',
  }: Graph): Promise<string[]> {
    const text = `
version: 1
${top}
sources: [{ use: watch, with: { path: ./inbox${watch} } }]
stages: [${stages}]
sinks: [${sink}]
`;
    const { issues } = await parsePipeline(text, {
      file: join(folder, 'p.yaml'),
      registry: builtInRegistry(),
    });
    return issues.map(({ code, message }) => `${code} ${message}`);
  }

  for (const sink of [
    '{ use: folder, with: { path: ./inbox/out } }',
    '{ use: folder, with: { path: ./link/out } }',
    '{ use: csv, with: { path: inbox/results.csv } }',
    '{ use: jsonl, with: { path: ./inbox/a/b.jsonl } }',
    '{ use: sqlite, with: { path: ./inbox/r.db } }',
  ]) {
    it(`is refused if a source would take its output as films: ${sink}`, async () => {
      const [fault = '', ...more] = await faults({ sink });
      expect(fault)
        .to.contain('CONFIG_REFUSED')
        .and.contain('the source `watch` would take the files written here as films');
      expect(more).to.deep.equal([]);
    });
  }

  it('is refused if a source would take its dead letter as films', async () => {
    const sink = '{ use: csv, with: { path: out.csv } }';
    expect(await faults({ sink, top: 'state: ./inbox/state' })).to.have.lengthOf(1);
    expect(await faults({ sink, top: 'state: ./inbox/.rxray' })).to.deep.equal([]);
  });

  it('may write files into the folder that the source does not take', async () => {
    const fine: Graph[] = [
      { sink: '{ use: folder, with: { path: ./out } }' },
      { sink: '{ use: csv, with: { path: ./inbox/.hidden/r.csv } }' },
      { watch: ", include: ['**/*.png']", sink: '{ use: csv, with: { path: ./inbox/r.csv } }' },
      { watch: ', recursive: false', sink: '{ use: folder, with: { path: ./inbox/out } }' },
      {
        watch: ', onDone: move, moveTo: ./inbox/archive',
        sink: '{ use: folder, with: { path: ./inbox/archive/out } }',
      },
    ];
    for (const graph of fine) expect(await faults(graph), JSON.stringify(graph)).to.deep.equal([]);
  });

  it('is refused when two sinks write one file, or a sink one of rxray or the pipeline file', async () => {
    const both = (one: string, other: string): string => `{ id: one, ${one} }, { id: other, ${other} }`;
    for (const sink of [
      both('use: csv, with: { path: ./r.csv }', 'use: csv, with: { path: ./x/../r.csv }'),
      both('use: jsonl, with: { path: ./link/../r }', 'use: sqlite, with: { path: ./r }'),
      both('use: folder, with: { path: ./out }', 'use: folder, with: { path: out, json: false }'),
    ]) {
      expect(await faults({ sink }), sink).to.deep.equal([
        'CONFIG_REFUSED the sink `one` writes this file: name another',
      ]);
    }
    for (const path of ['./.rxray/journal.db', '.rxray/reviews.jsonl', 'p.yaml']) {
      expect(await faults({ sink: `{ use: sqlite, with: { path: ${path} } }` }), path).to.deep.equal([
        'CONFIG_REFUSED rxray itself uses this file: name another',
      ]);
    }
    const tables = both(
      'use: sqlite, with: { path: ./r.db, table: a }',
      'use: sqlite, with: { path: ./r.db, table: b }',
    );
    expect(await faults({ sink: tables })).to.deep.equal([]);
  });

  it('is refused with ids that differ in case only, where a sink cannot tell them apart', async () => {
    const stages = '{ use: decode }, { id: Small, use: clahe }, { id: small, use: clahe }';
    expect(await faults({ stages, sink: '{ use: csv, with: { path: r.csv } }' })).to.deep.equal([]);
    const [fault] = await faults({ stages, sink: '{ use: sqlite, with: { path: r.db } }' });
    expect(fault).to.contain('CONFIG_DUPLICATE_ID the ids `Small` and `small` are the same to `sqlite`');
  });

  it('is refused with a time beyond what a timer can wait', async () => {
    const sink = (more: string, options = ''): string =>
      `{ use: webhook, ${more} with: { url: 'http://127.0.0.1/'${options} } }`;
    for (const graph of [
      { sink: sink(''), top: 'shutdownTimeoutMs: 3000000000' },
      { sink: sink(''), watch: ', settleMs: 2147483648' },
      { sink: sink(''), watch: ', scanMs: 3000000000' },
      { sink: sink('', ', timeoutMs: 3000000000') },
      ...['backoffMs', 'maxBackoffMs', 'giveUpAfterMs'].map((key) => ({
        sink: sink(`retry: { ${key}: 3000000000 },`),
      })),
    ]) {
      const [fault = '', ...more] = await faults(graph);
      expect(fault, JSON.stringify(graph)).to.contain('expected at most 2147483647');
      expect(more).to.deep.equal([]);
    }
    expect(await faults({ sink: sink(''), top: 'shutdownTimeoutMs: 2147483647' })).to.deep.equal([]);
  });

  it('is shown without control characters for a terminal', async () => {
    const text = 'version: 1\nname: "x"\n\u001b]0;title\u0007: 1\nsinks: "\u001b[2J\u202e\u009b"\n';
    const file = join(folder, 'p.yaml');
    const { issues } = await parsePipeline(text, { file, registry: builtInRegistry() });
    expect(issues).not.to.be.empty;
    for (const sign of '\u001b\u0007\u009b\u202e')
      expect(formatIssues(issues, { file, text })).not.to.contain(sign);
  });
});
