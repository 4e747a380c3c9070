import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { entryIds, listEntries, type DeadLetterEntry } from '../../src/core/dead-letter-entries.js';
import { film } from '../support/films.js';
import { GRAPH, Lab, rxray, type Result } from '../support/lab.js';

/** A stage that refuses every film while the file `closed` lies beside the graph. */
const GATE = `
import { existsSync } from 'node:fs';
import { defineStage, z } from 'rxray';
export default defineStage({
  name: 'gate', summary: 'Refuses films while it is closed.', options: z.strictObject({}),
  create: (_, { resolve }) => ({
    process(frame) {
      if (existsSync(resolve('closed'))) throw new Error('the gate is closed', { cause: new Error('it is night') });
      return frame;
    },
  }),
});`;

describe('rxray deadletter', function () {
  // each test starts the whole program several times
  this.timeout(240_000);
  let lab: Lab;

  beforeEach(async () => {
    lab = await Lab.open(GRAPH.replace('- use: clahe', '- id: gate\n    use: ./gate.mjs'), {
      'gate.mjs': GATE,
      closed: '',
      'inbox/ward/a.png': await film(64, 48).png().toBuffer(),
    });
  });
  afterEach(() => lab.close());

  const open = (): Promise<void> => rm(lab.path('closed'));
  const deadletter = (...args: string[]): Promise<Result> =>
    rxray('deadletter', ...args, '--pipeline', lab.path('pipeline.yaml'));
  const list = async (): Promise<DeadLetterEntry[]> =>
    JSON.parse((await deadletter('ls', '--json')).stdout) as DeadLetterEntry[];

  it('lists and shows what failed, where and why', async () => {
    await lab.run();
    const [letter, ...others] = await list();
    expect(others).to.be.empty;
    expect(letter).to.include({ file: 'ward/a.png', code: 'FRAME_STAGE', stage: 'gate', replaying: false });
    const id = letter?.id ?? '';
    expect((await deadletter('ls')).stdout).to.match(
      new RegExp(`${id.slice(0, 8)}.*FRAME_STAGE.*gate.*ward/a.png`),
    );
    expect((await rxray('deadletter', 'ls', lab.path('pipeline.yaml'))).stdout).to.contain('ward/a.png');
    const { stdout, code } = await deadletter('show', id.slice(0, 6));
    expect(code).to.equal(0);
    for (const part of [
      id,
      'the gate is closed',
      join('deadletter', id, 'a.png'),
      letter?.graph.slice(0, 12),
    ]) {
      expect(stdout).to.contain(part);
    }
    const unknown = await deadletter('show', 'ffffffff');
    expect(unknown).to.include({ code: 2 });
    expect(unknown.stderr).to.contain('DEADLETTER_UNKNOWN');
  });

  it('replays a film whose file is gone until it succeeds, exactly once', async () => {
    await lab.run();
    await rm(lab.path('inbox/ward/a.png'));
    const again = await deadletter('replay', '--all');
    expect(again, again.stderr).to.include({ code: 1 });
    expect(again.stdout).to.contain('failed again: the gate is closed');
    expect(await list()).to.have.lengthOf(1);
    await open();
    const { code, stdout, stderr } = await deadletter('replay', '--all');
    expect(code, stderr).to.equal(0);
    expect(stdout).to.contain('is done');
    expect(await lab.delivered()).to.deep.equal(['ward/a.png']);
    expect(await list()).to.deep.equal([]);
    expect(await readdir(lab.path('.rxray/replays'))).to.deep.equal([]);
    // The same bytes under the same name are known.
    await lab.write('inbox/ward/a.png', await film(64, 48).png().toBuffer());
    await lab.run();
    expect(await lab.delivered()).to.deep.equal(['ward/a.png']);
  });

  it('leaves the replay to the process that runs the graph', async () => {
    const running = lab.start();
    await running.until(async () => (await lab.letters()).size > 0);
    await open();
    const { stdout, code } = await deadletter('replay', '--all');
    expect(code).to.equal(0);
    expect(stdout).to.contain('the running process replays them');
    await running.until(async () => (await lab.letters()).size === 0);
    expect(await lab.delivered()).to.deep.equal(['ward/a.png']);
    running.interrupt();
    await running.ended();
  });

  it('replays a film of which there is no copy from its own place', async () => {
    const graph = GRAPH.replace('version: 1', 'version: 1\nlimits: { bytes: 50 }');
    await lab.write('pipeline.yaml', graph);
    await lab.run();
    const [letter] = await list();
    expect(letter).to.include({ code: 'FRAME_TOO_LARGE', kept: null });
    const { stdout } = await deadletter('show', letter?.id ?? '');
    expect(stdout).to.contain('not copied').and.contain('inbox/ward/a.png');
    await lab.write('pipeline.yaml', GRAPH);
    const { code, stderr } = await deadletter('replay', letter?.id ?? '');
    expect(code, stderr).to.equal(0);
    expect(await lab.delivered()).to.deep.equal(['ward/a.png']);
    expect(await list()).to.deep.equal([]);
  });

  it('discards a film permanently: the next run does not take it again', async () => {
    await lab.run();
    const { stdout } = await deadletter('discard', '--all');
    expect(stdout).to.contain('1 film discarded');
    await open();
    await lab.run();
    expect(await lab.delivered()).to.deep.equal([]);
    expect(await list()).to.deep.equal([]);
  });

  it('names films that cannot be replayed', async () => {
    await lab.run();
    const [letter] = await list();
    await writeFile(lab.path(`.rxray/deadletter/${letter?.id ?? ''}/reason.json`), 'null');
    const { code, stdout } = await deadletter('replay', '--all');
    expect(stdout).to.match(/✗ \S{8} cannot be replayed: its reason\.json cannot be read: .*expected object/);
    expect(code).to.equal(1);
  });

  it('requires the ids of films, or --all', async () => {
    for (const args of [['discard'], ['replay', '--all', 'abc']]) {
      const { code, stderr } = await deadletter(...args);
      expect(code).to.equal(2);
      expect(stderr).to.contain('expected the ids of films, or --all');
    }
  });
});

describe('the dead letter after a crash', () => {
  const id = 'a'.repeat(32);
  let lab: Lab;
  beforeEach(async () => {
    lab = await Lab.open('', { [`.rxray/deadletter/${id}/reason.json`]: '{"at":"2026"}' });
  });
  afterEach(() => lab.close());
  const dir = (name: string): string => lab.path(`.rxray/deadletter/${name}`);

  it('has the earlier entry if the new one had not replaced it yet', async () => {
    await rename(dir(id), dir(`.${id}.old`));
    await mkdir(dir(`.${id}.part`));
    expect(await entryIds(lab.path('.rxray'))).to.deep.equal([id]);
    expect(await listEntries(lab.path('.rxray'))).to.have.lengthOf(1);
    expect(await readdir(dir(''))).to.deep.equal([id]);
  });

  it('has the new entry if it had, and nothing of an entry that was being removed', async () => {
    await mkdir(dir(`.${id}.old`));
    await mkdir(dir(`.${'b'.repeat(32)}.gone`));
    await writeFile(join(dir(`.${'b'.repeat(32)}.gone`), 'reason.json'), '{}');
    expect(await entryIds(lab.path('.rxray'))).to.deep.equal([id]);
    expect(await readdir(dir(''))).to.deep.equal([id]);
  });
});
