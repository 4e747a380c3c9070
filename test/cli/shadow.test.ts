import { readFile, stat } from 'node:fs/promises';
import { expect } from 'chai';
import type { ShadowComparison } from '../../src/control/shadow.js';
import { film } from '../support/films.js';
import { Lab, rxray } from '../support/lab.js';

/** Calls films abnormal by their names; fails on one. */
const JUDGE = `
import { defineStage, z } from 'rxray';
export default defineStage({
  name: 'judge', summary: 'Judges films by their names.', keepsPixels: true,
  options: z.strictObject({ abnormal: z.string(), fails: z.string().default('never') }),
  create: ({ abnormal, fails }, { id }) => ({
    columns: [{ name: 'abnormal', path: ['abnormal'] }],
    process(frame) {
      const { name } = frame.origin;
      if (name.includes(fails)) throw new Error('it cannot');
      const is = new RegExp(abnormal).test(name);
      const result = { kind: 'judgement', label: is ? 'ill' : 'well', abnormal: is, suspicion: is ? 0.9 : 0.1 };
      return { ...frame, results: { ...frame.results, [id]: result } };
    },
  }),
});`;
const GRAPH = `
version: 1
sources: [{ use: watch, with: { path: ./inbox } }]
stages:
  - use: decode
  - { id: present, use: ./judge.mjs, with: { abnormal: '[ab]' } }
  - { id: candidate, use: ./judge.mjs, shadow: true, with: { abnormal: '[bc]', fails: e } }
sinks: [{ use: csv, with: { path: ./out.csv } }]
`;

describe('a shadow stage', function () {
  this.timeout(60_000);
  let lab: Lab;
  before(async () => {
    const png = await film().png().toBuffer();
    const files = ['a', 'b', 'c', 'd', 'e'].map((name) => [`inbox/${name}.png`, png] as const);
    lab = await Lab.open(GRAPH, { 'judge.mjs': JUDGE, 'inbox/f.png': 'x', ...Object.fromEntries(files) });
    const { code, stderr } = await lab.run();
    expect(code, stderr).to.equal(1);
  });
  after(() => lab.close());

  it('is no part of the verdict, writes no column by default, and fails no film', async () => {
    const [header, ...rows] = (await readFile(lab.path('out.csv'), 'utf8')).trimEnd().split('\r\n');
    expect(header).to.equal('file,id,receivedAt,completedAt,suspicious,suspicion,present.abnormal');
    const suspicious = rows.map((row) => row.split(',')).map(([name, , , , is]) => `${name} ${is}`);
    expect(suspicious.sort()).to.deep.equal([
      'a.png true',
      'b.png true',
      'c.png false',
      'd.png false',
      'e.png false',
    ]);
  });

  it('is compared with the verdicts, film by film', async () => {
    const { stdout } = await rxray('shadow', lab.path('pipeline.yaml'), '--json');
    const [found] = JSON.parse(stdout) as [ShadowComparison];
    expect(found).to.deep.include({ stage: 'candidate', films: 4, missing: 1 });
    expect(found.verdict).to.deep.include({ both: 1, neither: 1, onlyGraph: 1, onlyShadow: 1 });
    expect(found.verdict?.agreement.value).to.equal(0.5);
    expect(found.labels.map(({ label, shadow }) => [label, shadow])).to.deep.equal([
      ['ill', { ill: 1, well: 1 }],
      ['well', { ill: 1, well: 1 }],
    ]);
    expect(found.differing.map(({ file }) => file).sort()).to.deep.equal(['a.png', 'c.png']);
    const text = (await rxray('shadow', lab.path('pipeline.yaml'), '--since', '1h')).stdout;
    expect(text)
      .to.match(/same verdict: 50\.0 % \(15\.0–85\.0\)/)
      .and.contain('c.png');
  });

  it('is in the report, with suspicious films as pictures and failures by their reason', async () => {
    const out = lab.path('report.html');
    const { code, stdout, stderr } = await rxray(
      'report',
      lab.path('pipeline.yaml'),
      '--since',
      '1h',
      '--out',
      out,
    );
    expect(code, stderr).to.equal(0);
    expect(stdout).to.contain('6 films');
    const text = await readFile(out, 'utf8');
    expect(text.match(/<img src="data:image\/png/g)).to.have.length(2);
    expect(text)
      .to.contain('a.png')
      .and.contain('FRAME_NOT_AN_IMAGE')
      .and.contain('f.png')
      .and.contain('candidate');
    expect(text).to.not.contain('<script');
    expect((await stat(out)).mode & 0o77).to.equal(0);
  });

  it('must not change what others get', async () => {
    const wrong = GRAPH.replace('- use: decode', '- use: decode\n  - { use: clahe, shadow: true }');
    await lab.write('wrong.yaml', wrong);
    expect((await rxray('lint', lab.path('wrong.yaml'))).stdout).to.match(
      /`present` would get the pixels of the shadow stage `clahe`/,
    );
    await lab.write('wrong.yaml', GRAPH.replace('shadow: true', 'shadow: true, when: "false"'));
    expect((await rxray('lint', lab.path('wrong.yaml'))).stdout).to.match(/would miss the films/);
    await lab.write('wrong.yaml', GRAPH.replace('shadow: true', 'shadow: true, onError: stop'));
    expect((await rxray('lint', lab.path('wrong.yaml'))).stdout).to.match(/leave out `onError:`/);
  });
});
