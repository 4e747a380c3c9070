import { readdir, readFile } from 'node:fs/promises';
import { expect } from 'chai';
import sharp from 'sharp';
import { film } from '../support/films.js';
import { GRAPH, Lab, rxray } from '../support/lab.js';

describe('a running process', () => {
  let lab: Lab;

  before(async () => {
    lab = await Lab.open(GRAPH, { 'inbox/good.png': await film().png().toBuffer() });
  });
  after(() => lab.close());

  it('is found by top, tap and graph --live, and logs ids instead of names', async () => {
    const running = lab.start(['--page', '0'], { env: { RXRAY_LOG: 'info' } });
    await running.until(async () => (await lab.delivered()).length > 0);
    const graph = lab.path('pipeline.yaml');

    const [top, json, mermaid] = await Promise.all([
      rxray('top', graph),
      rxray('top', graph, '--json'),
      rxray('graph', graph, '--live'),
    ]);
    expect(top.code, top.stderr).to.equal(0);
    expect(top.stdout)
      .to.match(/^pipeline running, up /m)
      .and.match(/^decode +stage +1 /m);
    expect(JSON.parse(json.stdout)).to.nested.include({ name: 'pipeline', 'films.done': 1 });
    expect(mermaid.stdout).to.match(/<b>decode<\/b>.*<i>\d+\.\d\/s/);

    const tap = rxray('tap', 'clahe', graph, '--save', lab.path('look'), '-n', '1', '--json');
    const unknown = await rxray('tap', 'nothing', graph);
    expect(unknown.code).to.equal(2);
    expect(unknown.stderr).to.contain('there are watch, decode, clahe, csv');
    const looking = tap.then((result) => ({ result }));
    let seenBy: Awaited<typeof looking> | undefined;
    for (let i = 0; seenBy === undefined; i++) {
      await lab.write(`inbox/seen-${i}.png`, await film(64, 48).png().toBuffer());
      const through = async (): Promise<boolean> => (await lab.delivered()).includes(`seen-${i}.png`);
      seenBy = (await Promise.race([looking, running.until(through)])) ?? undefined;
    }
    const { stdout } = seenBy.result;
    const seen = JSON.parse(stdout) as { id: string; file: string };
    expect(seen.file).to.match(/^seen-\d+\.png$/);
    expect((await readdir(lab.path('look'))).sort()).to.deep.equal([`${seen.id}.json`, `${seen.id}.png`]);
    const { width, height } = await sharp(lab.path(`look/${seen.id}.png`)).metadata();
    expect([width, height]).to.deep.equal([64, 48]);

    running.interrupt();
    const { stderr } = await running.ended();
    const lines = stderr
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as { msg: string; film?: string });
    expect(lines[0]).to.include({ msg: 'running', pipeline: 'pipeline' });
    expect(lines.find(({ msg }) => msg === 'film done')!.film).to.match(/^[0-9a-f]{32}$/);
    expect(lines.at(-1)).to.include({ msg: 'ended' });
    expect(stderr).not.to.contain('good.png');
    expect(await readFile(lab.path('.rxray/worklist.jsonl'), 'utf8')).to.contain('good.png');
    expect(await readdir(lab.path('.rxray'))).not.to.include('control.sock');
  });

  it('is reported when it is not running', async () => {
    const { code, stderr } = await rxray('top', lab.path('pipeline.yaml'));
    expect(code).to.equal(2);
    expect(stderr).to.contain('CONTROL_NOT_RUNNING');
  });

  it('does not start if the page cannot be served', async () => {
    const { code, stderr } = await lab.run(['--page', '127.0.0.1:1'], { asNobody: true });
    expect(code).to.equal(2);
    expect(stderr).to.contain('CONTROL_ADDRESS');
  });
});
