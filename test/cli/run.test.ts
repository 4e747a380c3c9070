import { readdir, readFile, rm } from 'node:fs/promises';
import { expect } from 'chai';
import { film } from '../support/films.js';
import { GRAPH, Lab } from '../support/lab.js';

describe('rxray run', () => {
  let lab: Lab;
  const png = () => film().png().toBuffer();

  beforeEach(async () => {
    lab = await Lab.open(GRAPH, { 'inbox/a.png': await png() });
  });
  afterEach(() => lab.close());

  it('takes over the pipeline file when it is saved, and continues unchanged if that has errors', async () => {
    const running = lab.start(['--watch-config']);
    await running.until(async () => (await lab.delivered()).length === 1);
    await lab.write(
      'pipeline.yaml',
      GRAPH.replace('- use: clahe', '- use: clahe\n    with: { clipLimit: 3 }'),
    );
    await running.said(/was reloaded/);
    await lab.write(
      'pipeline.yaml',
      GRAPH.replace('- use: clahe', '- use: clahe\n    with: { clipLimit: no }'),
    );
    await running.said(/CONFIG_INVALID[^]*the graph continues unchanged/);
    await lab.write('pipeline.yaml', GRAPH.replace('./out.csv', './pipeline.yaml'));
    await running.said(/CONFIG_REFUSED[^]*the graph continues unchanged/);
    await lab.write('folder/other.txt', 'x');
    await lab.write('pipeline.yaml', GRAPH.replace('./out.csv', './folder'));
    await running.said(/OUTPUT_UNWRITABLE[^]*the graph continues unchanged/);
    await lab.write('inbox/b.png', await png());
    await running.until(async () => (await lab.delivered()).length === 2);
    running.interrupt();
    expect((await running.ended()).code).to.equal(0);
  });

  it('skips files without pixels: kept, counted, named, and not failures', async () => {
    const film = await readFile(new URL('../../fixtures/dicom/no-pixels.dcm', import.meta.url));
    const report = film.toString('latin1').replaceAll('5.1.4.1.1.1\0', '5.1.4.1.1.66');
    await lab.write('inbox/report.dcm', Buffer.from(report, 'latin1'));
    await lab.write('pipeline.yaml', GRAPH.replace('./inbox,', './inbox, onDone: delete,'));
    const { code, stderr } = await lab.run();
    expect(stderr).to.match(/report\.dcm {2}skipped: no pixels: .* raw data \(FRAME_NO_PIXELS\)/);
    expect(stderr)
      .to.match(/1 file skipped/)
      .and.not.match(/failed/);
    expect(code).to.equal(0);
    expect(await lab.delivered()).to.deep.equal(['a.png']);
    expect(await readdir(lab.path('inbox'))).to.deep.equal(['report.dcm']);
    expect((await lab.run()).stderr).to.not.match(/failed/);
  });

  it('leaves files alone that are known not to be images, and counts them', async () => {
    for (const name of ['notes.txt', 'Thumbs.db', 'disc/DICOMDIR', '__MACOSX/a.png', 'no image'])
      await lab.write(`inbox/${name}`, 'x');
    const { code, stderr } = await lab.run();
    expect(stderr)
      .to.contain('3 files were left alone because they are not images')
      .and.contain('1 film failed');
    expect([...(await lab.letters()).keys()]).to.deep.equal(['no image']);
    expect(await lab.delivered()).to.deep.equal(['a.png']);
    expect(code).to.equal(1);
  });

  it('takes one file as --input, whatever its name means to globs', async () => {
    await lab.write('elsewhere/!film [1].png', await png());
    await lab.write('elsewhere/film 1.png', await png());
    expect((await lab.run(['--input', lab.path('elsewhere/!film [1].png')])).code).to.equal(0);
    expect(await lab.delivered()).to.deep.equal(['!film [1].png']);
    expect((await lab.run(['--input', lab.path('nowhere')])).stderr).to.match(/nowhere does not exist/);
  });

  it('ends when `maxErrors` films have failed; the next run takes the rest', async () => {
    await lab.write('pipeline.yaml', `${GRAPH}maxErrors: 2\nlimits: { frames: 1 }\n`);
    await rm(lab.path('inbox/a.png'));
    for (let i = 0; i < 60; i++) await lab.write(`inbox/${i}.png`, 'x');
    const first = await lab.run();
    expect(first.code).to.equal(3);
    expect(first.stderr).to.match(
      /rxray stopped: \d+ films have failed, and `maxErrors: 2` ends .*RUN_STOPPED/,
    );
    const { size } = await lab.letters();
    expect(size).to.be.within(2, 59);
    expect((await lab.run()).code).to.equal(3);
    expect((await lab.letters()).size).to.be.above(size);
  });

  it('prints its progress without a terminal, and names an empty folder', async () => {
    await rm(lab.path('inbox/a.png'));
    const { stderr } = await lab.run();
    expect(stderr).to.contain(`no films found in ${lab.path('inbox')}`);
  });

  it('names the process that holds the journal', async () => {
    const running = lab.start();
    await running.until(async () => (await lab.delivered()).length === 1);
    const { code, stderr } = await lab.run();
    expect(code).to.equal(3);
    expect(stderr).to.match(/in use by another rxray process \(pid \d+ on .+, since 20.+STATE_LOCKED/s);
    running.interrupt();
    await running.ended();
  });

  it('repeats nothing when it is killed and started again', async () => {
    const running = lab.start();
    await running.until(async () => (await lab.delivered()).length === 1);
    await running.kill();
    await lab.write('inbox/b.png', await png());
    expect((await lab.run()).code).to.equal(0);
    expect(await lab.delivered()).to.deep.equal(['a.png', 'b.png']);
  });
});
