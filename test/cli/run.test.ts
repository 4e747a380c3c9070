import { readdir, readFile } from 'node:fs/promises';
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

  it('takes over the pipeline file when it is saved, and runs on as it was when that has errors', async () => {
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
    await running.said(/OUTPUT_UNWRITABLE[^]*the graph continues unchanged/);
    await lab.write('inbox/b.png', await png());
    await running.until(async () => (await lab.delivered()).length === 2);
    running.interrupt();
    expect((await running.ended()).code).to.equal(0);
  });

  it('skips what has no pixels: kept, counted, named, and no failure', async () => {
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

  it('says who holds the journal', async () => {
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
