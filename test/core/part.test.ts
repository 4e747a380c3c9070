import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Command } from 'commander';
import { parsePipeline, type Loaded } from '../../src/core/config/load.js';
import { parsePart, publish } from '../../src/core/part.js';
import { run } from '../../src/cli/run.js';
import { builtInRegistry } from '../../src/host/builtins.js';

const GRAPH = `
version: 1
sources: [{ use: manifest, with: { path: films.csv } }]
stages: [{ use: decode }]
sinks:
  - { use: csv, with: { path: ./out/results.csv } }
  - { use: csv, id: second, with: { path: ./elsewhere/results.csv } }
  - { use: console }
`;

describe('a part of a backfill', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-part-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  const load = (text: string): Promise<Loaded> =>
    parsePipeline(text, {
      file: join(folder, 'pipeline.yaml'),
      registry: builtInRegistry(),
      part: { index: 17, count: 200 },
    });

  it('is counted from 0', () => {
    expect(parsePart('0/1')).to.deep.equal({ index: 0, count: 1 });
    expect(parsePart('17/200')).to.deep.equal({ index: 17, count: 200 });
    for (const text of ['', '1', '1/1', '0/0', '-1/2', '1/2/3', '1.5/2', 'a/b', '0/99999999999']) {
      expect(parsePart(text), text).to.equal(undefined);
    }
  });

  it('has a state folder and output files of its own, and the hash of the whole', async () => {
    const { pipeline, issues } = await load(GRAPH);
    const state = join(folder, '.rxray/parts/00017-of-00200');
    expect(issues).to.deep.equal([]);
    expect(pipeline?.stateDir).to.equal(state);
    expect(pipeline?.part?.outputs).to.deep.equal([
      { from: join(state, 'output/csv.csv'), to: join(folder, 'out/results-00017-of-00200.csv') },
      { from: join(state, 'output/second.csv'), to: join(folder, 'elsewhere/results-00017-of-00200.csv') },
    ]);
    expect(pipeline?.sinks[1]?.settings).to.have.property('path', join(state, 'output/second.csv'));
    const whole = await parsePipeline(GRAPH, {
      file: join(folder, 'pipeline.yaml'),
      registry: builtInRegistry(),
    });
    expect(pipeline?.hash).to.equal(whole.pipeline?.hash);
  });

  it('is refused for a source that cannot be split, and for files that rotate', async () => {
    const { issues } = await load(
      GRAPH.replace('use: manifest, with: { path: films.csv', 'use: watch, with: { path: ./inbox').replace(
        './elsewhere/results.csv',
        './elsewhere/results.csv, rotate: { every: day }',
      ),
    );
    expect(issues.map(({ code, component }) => [code, component])).to.deep.equal([
      ['CONFIG_REFUSED', 'watch'],
      ['CONFIG_REFUSED', 'second'],
    ]);
  });

  it('replaces an earlier output, and leaves nothing else behind', async () => {
    const [from, to] = [join(folder, 'from.csv'), join(folder, 'out/to.csv')];
    await mkdir(join(folder, 'out'));
    await writeFile(to, 'earlier, and longer');
    await writeFile(from, 'later');
    await publish({ from, to });
    expect(await readFile(to, 'utf8')).to.equal('later');
    expect(await readFile(from, 'utf8')).to.equal('later');
    expect(await readdir(join(folder, 'out'))).to.deep.equal(['to.csv']);
  });

  it('needs --once, and two numbers', async () => {
    const outcome = async (...args: string[]): Promise<unknown> => {
      const program = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
      run(program);
      program.commands[0]?.exitOverride().configureOutput({ writeErr: () => undefined });
      return program.parseAsync(['run', ...args], { from: 'user' }).catch((error: unknown) => error);
    };
    expect(await outcome('--part', '0/4')).to.have.property('code', 'CONFIG_INVALID');
    expect(await outcome('--once', '--part', '4/4'))
      .to.have.property('message')
      .that.contains('counted from 0');
  });
});
