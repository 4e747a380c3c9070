import { readdir, readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { film } from '../support/films.js';
import { Lab } from '../support/lab.js';

const [PARTS, FILMS] = [3, 24];

const GRAPH = `
version: 1
limits: { frames: 1 }
sources:
  - use: manifest
    with: { path: ./films.csv }
stages:
  - use: decode
  - use: ./slow.mjs
sinks:
  - use: csv
    with: { path: ./out/results.csv, columns: [file, id, meta.format] }
`;

/** So that there is time to kill a part while it is at work. */
const SLOW = `
import { defineStage, z } from 'rxray';
export default defineStage({
  name: 'slow', summary: 'Takes its time.', options: z.strictObject({}),
  create: () => ({ process: (frame) => new Promise((done) => setTimeout(done, 30, frame)) }),
});
`;

describe('rxray run --part', () => {
  let lab: Lab;

  beforeEach(async () => {
    const bytes = await film().png().toBuffer();
    const names = Array.from({ length: FILMS }, (_, i) => `films/${String(i)}.png`);
    const list = `path\n${names.join('\n')}\n`;
    const films = Object.fromEntries(names.map((name) => [name, bytes]));
    lab = await Lab.open(GRAPH, { 'films.csv': list, 'slow.mjs': SLOW, ...films });
  });
  afterEach(() => lab.close());

  const outputs = async (): Promise<string[]> =>
    (await readdir(lab.path('out')).catch(() => [])).filter((name) => !name.startsWith('.')).sort();
  const rows = async (name: string): Promise<string[]> => {
    const [header, ...lines] = (await readFile(lab.path(`out/${name}`), 'utf8')).trimEnd().split('\r\n');
    expect(header).to.equal('file,id,meta.format');
    return lines;
  };
  const part = (index: number) => lab.start(['--once', '--part', `${String(index)}/${String(PARTS)}`]);

  it('gives the same as an undisturbed run when joined, although a part was killed and repeated', async function () {
    this.timeout(120_000);
    const running = part(1);
    const state = lab.path(`.rxray/parts/00001-of-0000${String(PARTS)}`);
    const begun = async (): Promise<boolean> =>
      (await readFile(`${state}/output/csv.csv`, 'utf8').catch(() => '')).includes('png');
    await running.until(begun);
    await running.kill();
    expect(await outputs()).to.deep.equal([]);

    const indices = Array.from({ length: PARTS }, (_, index) => index);
    const ends = await Promise.all([...indices.map((index) => part(index).ended()), lab.run()]);
    expect(ends.map(({ code }) => code)).to.deep.equal([...indices.map(() => 0), 0]);
    // A part that is complete is left as it is.
    expect((await part(1).ended()).stderr).to.contain('already done');

    const names = indices.map((index) => `results-0000${String(index)}-of-0000${String(PARTS)}.csv`);
    expect(await outputs()).to.deep.equal([...names, 'results.csv']);
    const joined = (await Promise.all(names.map(rows))).flat();
    expect(joined).to.have.length(FILMS);
    expect(joined.sort()).to.deep.equal((await rows('results.csv')).sort());
  });
});
