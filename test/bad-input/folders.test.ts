import { appendFile, chmod, mkdir, rename, rm } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { expect } from 'chai';
import { film } from '../support/films.js';
import { GRAPH, Lab } from '../support/lab.js';

const GOOD = 'good.png';
const good = () => film().png().toBuffer();

describe('bad folders and permissions', () => {
  const labs: Lab[] = [];
  const open = async (pipeline: string, files?: Record<string, Uint8Array>): Promise<Lab> => {
    const lab = await Lab.open(pipeline, files);
    labs.push(lab);
    return lab;
  };
  after(() => Promise.all(labs.map((lab) => lab.close())));

  it('a file without read permission fails alone, and is not lost', async () => {
    const lab = await open(GRAPH, { 'inbox/locked.png': await good(), [`inbox/${GOOD}`]: await good() });
    await chmod(lab.path('inbox/locked.png'), 0o000);
    const { code, stderr } = await lab.run([], { asNobody: true });
    expect(code, stderr).to.equal(1);
    expect(stderr).to.match(/locked\.png.*FRAME_UNREADABLE/);
    expect(await lab.delivered()).to.deep.equal([GOOD]);
    // What cannot be read cannot be copied: the dead letter keeps the reason.
    expect((await lab.letters()).get('locked.png')).to.include({ code: 'FRAME_UNREADABLE', copy: null });
  });

  it('an output that cannot be written ends the run before it has taken a film', async () => {
    const lab = await open(GRAPH.replace('./out.csv', './closed/out.csv'), {
      [`inbox/${GOOD}`]: await good(),
    });
    await mkdir(lab.path('closed'), { mode: 0o555 });
    const { code, stderr } = await lab.run([], { asNobody: true });
    expect(code, stderr).to.equal(3);
    expect(stderr).to.contain('OUTPUT_UNWRITABLE').and.contain('closed');
    expect((await lab.letters()).size).to.equal(0);
  });

  it('a state folder that cannot be written ends the run before it has taken a film', async () => {
    const lab = await open(`state: ./closed\n${GRAPH}`, { [`inbox/${GOOD}`]: await good() });
    await mkdir(lab.path('closed'), { mode: 0o555 });
    const { code, stderr } = await lab.run([], { asNobody: true });
    expect(code, stderr).to.equal(3);
    expect(stderr).to.contain('STATE_UNWRITABLE').and.contain('closed');
    expect(await lab.delivered()).to.deep.equal([]);
  });

  it('a film that is still being written for 5 s is taken once, whole', async () => {
    const lab = await open(GRAPH.replace('settleMs: 100', 'settleMs: 700'), {
      [`inbox/${GOOD}`]: await good(),
    });
    const bytes = await film(400, 300).png().toBuffer();
    const parts = 100;
    await lab.write('inbox/slow.png', bytes.subarray(0, 0));
    const running = lab.start(['--once']);
    const write = async (): Promise<void> => {
      for (let i = 0; i < parts; i += 1) {
        const [from, to] = [i, i + 1].map((part) => Math.round((part * bytes.length) / parts));
        await appendFile(lab.path('inbox/slow.png'), bytes.subarray(from, to));
        // The writer's own pace, which is what this test is about.
        await setTimeout(50);
      }
    };
    const [{ code, stderr }] = await Promise.all([running.ended(), write()]);
    expect(code, stderr).to.equal(0);
    expect(await lab.delivered()).to.deep.equal([GOOD, 'slow.png']);
  });

  it('a folder that is missing at the start is waited for', async () => {
    const lab = await open(GRAPH);
    const running = lab.start();
    await running.said(/folder does not exist yet/);
    await lab.write(`inbox/${GOOD}`, await good());
    await running.until(async () => (await lab.delivered()).length > 0);
    running.interrupt();
    const { code, stderr } = await running.ended();
    expect(code, stderr).to.equal(0);
    expect(await lab.delivered()).to.deep.equal([GOOD]);
  });

  it('a folder that is deleted and made again is watched again', async () => {
    const lab = await open(GRAPH, { 'inbox/before.png': await good() });
    const running = lab.start();
    await running.until(async () => (await lab.delivered()).length === 1);
    await rm(lab.path('inbox'), { recursive: true });
    await lab.write('new/after.png', await film(70, 70).png().toBuffer());
    await rename(lab.path('new'), lab.path('inbox'));
    await running.until(async () => (await lab.delivered()).length === 2);
    running.interrupt();
    const { code, stderr } = await running.ended();
    expect(code, stderr).to.equal(0);
    expect(await lab.delivered()).to.deep.equal(['after.png', 'before.png']);
  });
});
