import { stripVTControlCharacters } from 'node:util';
import { expect } from 'chai';
import { builtInRegistry } from '../../src/host/builtins.js';
import { drawingOf, toMermaid, toSvg } from '../../src/cli/drawing.js';
import { tableOf, type GraphReply } from '../../src/cli/top.js';
import type { LiveNode } from '../../src/control/live.js';
import { parsePipeline } from '../../src/core/config/load.js';

function node(id: string, kind: LiveNode['kind'], busy: number | null, queue = 0): LiveNode {
  return {
    id,
    kind,
    use: id,
    from: [],
    when: null,
    framesIn: 10,
    framesOut: 10,
    errors: 0,
    bytes: 0,
    queue,
    inFlight: 0,
    parked: 0,
    framesPerSecond: 2.5,
    bytesPerSecond: 0,
    ms: busy === null ? null : 12.34,
    batch: 1,
    busy,
    trouble: null,
  };
}

const answer: GraphReply = {
  name: 'ward',
  state: 'running',
  graph: '',
  at: '',
  uptimeSeconds: 3725,
  memory: 300 * 1024 ** 2,
  films: { done: 9, failed: 1, skipped: 0, already: 0, failedBefore: 0, leftAlone: 0 },
  filmsPerSecond: 2.5,
  load: { waiting: 100, frames: 64, bytes: 0 },
  cluster: null,
  limiting: 'clahe',
  nodes: [node('watch', 'source', null), node('clahe', 'stage', 0.98, 40), node('csv', 'sink', 0.01)],
};

describe('what a running graph does', () => {
  it('is a table that names the bottleneck', () => {
    const lines = stripVTControlCharacters(tableOf(answer)).split('\n');
    expect(lines[0]).to.equal('ward running, up 1 h 2 min, 300 MiB');
    expect(lines[1]).to.equal('9 done, 1 failed, 2.5 films/s; 64 in flight, 100 waiting');
    expect(lines.find((line) => line.startsWith('clahe'))).to.match(/stage +10 +2\.5 +40 +0 +98 % +12 /);
    expect(lines.at(-1)).to.equal('clahe sets the pace (clahe)');
    const nodes = answer.nodes.map((each) => ({ ...each, parked: each.id === 'csv' ? 7 : 0 }));
    const table = stripVTControlCharacters(tableOf({ ...answer, limiting: null, nodes }));
    expect(table).to.contain('idle: waiting for films').and.contain('7 films wait in the journal for csv');
  });

  it('has a row for each worker of a head', () => {
    const workers = [{ name: 'node-3:71', films: 16, room: 32, through: 1200, filmsPerSecond: 18.25 }];
    const cluster = { workers, backlog: 5000, desired: 5 };
    const lines = stripVTControlCharacters(tableOf({ ...answer, cluster })).split('\n');
    expect(lines.find((line) => line.startsWith('node-3:71'))).to.match(/1200 +18\.3 +16 +32/);
    expect(lines.at(-1)).to.equal('workers: 1, wanted: 5; films waiting or at work: 5000');
  });

  it('names entries that do not work, and since when', () => {
    const trouble = { since: '2026-11-27T10:00:00.000Z', message: 'a write\u001b[2J has not returned' };
    const nodes = answer.nodes.map((each) => (each.id === 'csv' ? { ...each, trouble } : each));
    expect(stripVTControlCharacters(tableOf({ ...answer, nodes }).replace('\u001b[2J', 'RAW')))
      .to.contain('csv since 2026-11-27T10:00:00.000Z: a write')
      .and.not.contain('RAW');
  });

  it('is a picture in which the bottleneck is marked', async () => {
    const yaml =
      'version: 1\nsources: [{ use: watch, with: { path: . } }]\nstages: [{ use: decode }, { use: clahe }]\nsinks: [{ use: csv, with: { path: out.csv } }]';
    const options = { file: 'ward.yaml', registry: builtInRegistry(), lint: false };
    const { pipeline } = await parsePipeline(yaml, options);
    const live = drawingOf(pipeline!, answer);
    expect(toMermaid(live))
      .to.contain('2.5/s · 40 wait · 98 % busy')
      .and.match(/n_clahe.*:::limiting/);
    expect(toMermaid(drawingOf(pipeline!))).not.to.contain('limiting');
    const svg = toSvg(live);
    expect(svg.match(/#c26a00/g)).to.have.length(3);
    expect(svg).to.contain('>2.5/s · 40 wait · 98 % busy<');
  });
});
