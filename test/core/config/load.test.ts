import { expect } from 'chai';
import fc from 'fast-check';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { formatIssues } from '../../../src/core/config/format.js';
import { loadPipeline, parsePipeline } from '../../../src/core/config/load.js';
import type { Loaded, LoadOptions } from '../../../src/core/config/load.js';
import type { Pipeline } from '../../../src/core/config/pipeline.js';
import { registry } from './registry.js';

const CHEST = `
version: 1
name: chest
sources:
  - use: folder
    with: { path: ./inbox }
stages:
  - use: blur
    with: { sigma: 2 }
  - id: large
    use: blur
    concurrency: 2
  - id: classes
    use: score-it
    with: { bundle: ./models/chest, trainedOn: [blur, blur] }
    batch: { size: 8 }
  - id: small
    from: blur
    use: blur
  - use: score-it
    with: { bundle: ./models/anomaly, trainedOn: [blur, blur] }
  - id: joined
    use: blur
    from: [classes, score_it]
sinks:
  - use: table
  - id: alarms
    use: table
    from: score_it
    when: results.score_it.percentile > 99
`;

const parse = (text: string, options: LoadOptions = {}): Promise<Loaded> =>
  parsePipeline(text, { file: '/data/chest.yaml', registry, env: {}, ...options });

async function good(text: string, options: LoadOptions = {}): Promise<Pipeline> {
  const { pipeline, issues } = await parse(text, options);
  if (pipeline === undefined) throw new Error(formatIssues(issues, { file: '/data/chest.yaml', text }));
  expect(issues).to.deep.equal([]);
  return pipeline;
}

describe('loading a pipeline', () => {
  it('resolves ids, edges, settings and folders', async () => {
    const pipeline = await good(CHEST);
    expect(pipeline).to.include({
      name: 'chest',
      baseDir: '/data',
      stateDir: '/data/.rxray',
      file: '/data/chest.yaml',
    });
    expect(pipeline.limits).to.deep.equal({
      frames: 64,
      bytes: 512 * 1024 * 1024,
      minFreeBytes: 128 * 1024 * 1024,
    });
    expect(pipeline.sources.map(({ id, settings }) => ({ id, settings }))).to.deep.equal([
      { id: 'folder', settings: { path: './inbox', settleMs: 500, recursive: true } },
    ]);
    expect(pipeline.stages.map(({ id, from }) => `${from.join('+')} → ${id}`)).to.deep.equal([
      'folder → blur',
      'blur → large',
      'large → classes',
      'blur → small',
      'small → score_it',
      'classes+score_it → joined',
    ]);
    expect(
      pipeline.stages.map(({ batch, concurrency }) => ({ batch, concurrency })).slice(1, 3),
    ).to.deep.equal([
      { batch: undefined, concurrency: 2 },
      { batch: { size: 8, waitMs: 100 }, concurrency: undefined },
    ]);
    expect(pipeline.sinks.map(({ id, from, when }) => ({ id, from, when }))).to.deep.equal([
      { id: 'table', from: ['joined'], when: undefined },
      { id: 'alarms', from: ['score_it'], when: 'results.score_it.percentile > 99' },
    ]);
    expect(pipeline.stages[2]?.location).to.deep.equal({ line: 13, column: 5 });
  });

  it('lets the first stage take every source, and a sink the sources when there is no stage', async () => {
    const sources =
      'sources: [{ use: folder, with: { path: a } }, { use: folder, id: second, with: { path: b } }]';
    const staged = await good(`version: 1\n${sources}\nstages: [{ use: blur }]\nsinks: [{ use: table }]`);
    expect(staged.stages[0]?.from).to.deep.equal(['folder', 'second']);
    const bare = await good(`version: 1\n${sources}\nsinks: [{ use: table }]`);
    expect(bare.sinks[0]?.from).to.deep.equal(['folder', 'second']);
  });

  it('sorts the stages so that each comes after its inputs', async () => {
    const { stages } = await good(`
version: 1
sources: [{ use: folder, with: { path: a } }]
stages:
  - { id: last, use: blur, from: [middle, first] }
  - { id: middle, use: blur, from: first }
  - { id: first, use: blur, from: folder }
sinks: [{ use: table, from: last }]`);
    expect(stages.map(({ id }) => id)).to.deep.equal(['first', 'middle', 'last']);
  });

  it('substitutes the environment in string values only, after parsing', async () => {
    const env = { FOLDER: 'a: b # c', EMPTY: '', SIGMA: '2.5', DEEP: 'false', FRAMES: '9' };
    const pipeline = await good(
      `
version: 1
name: "$\${FOLDER}"
limits: { frames: "\${FRAMES}" }
sources:
  - use: folder
    with: { path: "\${FOLDER}/\${EMPTY:-in}\${EMPTY}", recursive: "\${DEEP}" }
stages:
  - use: blur
    with:
      sigma: \${SIGMA}
      border: \${BORDER:-wrap}
sinks: [{ use: table }]`,
      { env },
    );
    expect(pipeline.name).to.equal('${FOLDER}');
    expect(pipeline.limits.frames).to.equal(9);
    expect(pipeline.sources[0]?.settings).to.include({ path: 'a: b # c/in', recursive: false });
    expect(pipeline.stages[0]?.settings).to.deep.equal({ sigma: 2.5, border: 'wrap' });
    expect(pipeline.sources[0]?.written.with).to.include({ path: '${FOLDER}/${EMPTY:-in}${EMPTY}' });
  });

  it('understands anchors, aliases and merge keys', async () => {
    const { stages } = await good(`
version: 1
sources: [{ use: folder, with: { path: a } }]
stages:
  - use: blur
    with: &soft { sigma: 3, border: wrap }
  - id: second
    use: blur
    with: *soft
  - id: third
    use: blur
    with: { <<: *soft, sigma: 4 }
sinks: [{ use: table }]`);
    expect(stages.map(({ settings }) => settings)).to.deep.equal([
      { sigma: 3, border: 'wrap' },
      { sigma: 3, border: 'wrap' },
      { sigma: 4, border: 'wrap' },
    ]);
  });

  it('replaces the folder of the first source by `input`', async () => {
    const text = 'version: 1\nsources: [{ use: folder }]\nsinks: [{ use: table }]';
    expect((await good(text, { input: 'films' })).sources[0]?.settings).to.include({
      path: resolve('films'),
    });
  });

  it('puts the state folder where `state:` says, relative to the file', async () => {
    const text =
      'version: 1\nstate: ../state\nsources: [{ use: folder, with: { path: a } }]\nsinks: [{ use: table }]';
    expect((await good(text)).stateDir).to.equal('/state');
  });

  it('has another hash if results may differ, not for other folders of films', async () => {
    const { hash } = await good(CHEST);
    const same = [
      CHEST.replace('./inbox', './other'),
      CHEST.replace('size: 8', 'size: 9'),
      CHEST.replace('name: chest', ''),
    ];
    const others = [
      CHEST.replace('sigma: 2', 'sigma: 3'),
      CHEST.replace('> 99', '> 98'),
      CHEST.replace('from: blur', 'from: large'),
    ];
    for (const text of same) expect((await parse(text)).pipeline?.hash).to.equal(hash);
    for (const text of others)
      expect((await parse(text)).pipeline?.hash)
        .to.be.a('string')
        .not.equal(hash);
    expect(hash).to.match(/^[0-9a-f]{64}$/);
  });

  it('gives a pipeline despite warnings', async () => {
    const { pipeline, issues } = await parse(
      CHEST.replace('from: [classes, score_it]', 'from: classes').replace(/ {2}- id: alarms[^]*/, ''),
    );
    expect(issues.map(({ severity, code }) => `${severity} ${code}`)).to.deep.equal([
      'warning CONFIG_UNUSED',
      'warning CONFIG_UNUSED',
    ]);
    expect(pipeline?.stages).to.have.length(6);
  });

  describe('from a file', () => {
    let folder: string;
    before(() => (folder = mkdtempSync(join(tmpdir(), 'rxray-config-'))));
    after(() => rmSync(folder, { recursive: true }));

    const load = async (name: string, contents?: string | Uint8Array): Promise<string> => {
      const file = join(folder, name);
      if (contents !== undefined) writeFileSync(file, contents);
      const { issues } = await loadPipeline(file, registry);
      return formatIssues(issues, { file }).replaceAll(`${folder}/`, '');
    };

    it('reports that it does not exist', async () => {
      expect(await load('none.yaml')).to.match(
        /^none.yaml error CONFIG_NOT_FOUND there is no file none.yaml; `rxray new pipeline NAME`/,
      );
    });
    it('reports that it is a folder', async () => {
      expect(await load(''))
        .to.contain('CONFIG_NOT_FOUND')
        .and.contain('EISDIR');
    });
    it('reports that it is not text', async () => {
      expect(await load('binary.yaml', Uint8Array.of(0x89, 0xff, 0xfe))).to.contain('it is not UTF-8 text');
    });
    it('reports that it is too large', async () => {
      expect(await load('large.yaml', '#'.repeat(1024 * 1024 + 1))).to.contain(
        'it has 1048577 bytes, expected at most 1048576',
      );
    });
    it('reports that it has no end', async function () {
      if (!existsSync('/dev/zero')) this.skip();
      const { issues } = await loadPipeline('/dev/zero', registry);
      expect(formatIssues(issues, { file: '/dev/zero' })).to.contain('it has more than 1048576 bytes');
    });
    it('takes its name from the file when it has none, and accepts CRLF and a byte order mark', async () => {
      const file = join(folder, 'ward-3.yaml');
      writeFileSync(
        file,
        '\uFEFFversion: 1\r\nsources:\r\n  - use: folder\r\n    with: { path: a }\r\nsinks:\r\n  - use: table\r\n',
      );
      const { pipeline, issues } = await loadPipeline(file, registry);
      expect(issues).to.deep.equal([]);
      expect(pipeline?.name).to.equal('ward-3');
    });
  });
});

describe('any text at all', () => {
  /** Bits of YAML and of pipelines, so that the text gets past the parser often enough. */
  const fragment = fc.constantFrom(
    ...[
      'version: 1',
      'sources:',
      'stages:',
      'sinks:',
      '  - use: blur',
      '  - use: folder',
      '  - use: table',
      '  - id: a',
    ],
    ...[
      '    from: a',
      '    from: [a, b]',
      '    with:',
      '      path: x',
      '    with: { sigma: ${X} }',
      '    when: a.b > 1',
    ],
    ...[
      '    with: &a { <<: *a }',
      '    with: *a',
      '- -',
      '? x',
      '{',
      ']',
      '"',
      "'",
      '|',
      '\t',
      '---',
      '!!set',
      '  - null',
      '# c',
    ],
    ...[
      '__proto__: 1',
      '    with: { __proto__: 1, constructor: 2 }',
      '    batch: 3',
      '    id: toString',
      'limits: ~',
      '&a [*a]',
    ],
  );
  const pipelineish = fc.array(fragment, { maxLength: 14 }).map((lines) => lines.join('\n'));

  it('gives a pipeline or located issues, never an exception', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(pipelineish, fc.string({ unit: 'binary', maxLength: 60 })), async (text) => {
        const { pipeline, issues } = await parse(text);
        expect(pipeline === undefined).to.equal(issues.some(({ severity }) => severity === 'error'));
        const lines = text.split('\n').length;
        for (const { location } of issues) expect(location?.line).to.be.within(1, lines);
        formatIssues(issues, { file: 'x', text, color: true });
      }),
      { numRuns: 200 },
    );
  });

  it('survives deep nesting', async () => {
    for (const text of [
      '['.repeat(5000),
      `a: ${'['.repeat(500)}${']'.repeat(500)}`,
      '- '.repeat(2000),
      '{a: '.repeat(2000),
    ]) {
      const { issues } = await parse(text);
      expect(issues[0]?.severity).to.equal('error');
    }
  });
});
