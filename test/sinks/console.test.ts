import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { expect } from 'chai';
import stringWidth from 'string-width';
import type { Frame } from '../../src/core/frame.js';
import consolePlugin, { consoleSink, type Output } from '../../src/sinks/console.js';
import { makeFrame, testServices, type TestServices } from '../../src/testing.js';

class Screen extends Writable {
  text = '';
  constructor(
    readonly isTTY: boolean,
    readonly colours = false,
  ) {
    super();
  }
  hasColors(): boolean {
    return this.colours;
  }
  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

function film(
  name: string,
  probabilities: Record<string, number>,
  percentile: number | null,
  suspicion = percentile === null ? null : percentile / 190,
): Frame {
  const [[label, probability]] = Object.entries(probabilities).sort(([, a], [, b]) => b - a) as [
    [string, number],
  ];
  return makeFrame({
    name,
    results: {
      classes: { kind: 'classification', label, probability, probabilities, topK: [] },
      anogan: {
        kind: 'anomaly',
        anomalyScore: 0.2134,
        rawSum: 1061,
        percentile,
        abnormal: suspicion === null ? null : suspicion > 0.5,
        suspicion,
        residual: { data: new Uint8Array(4) },
      },
    },
  });
}

describe('the console sink', () => {
  let services: TestServices;
  beforeEach(() => (services = testServices()));
  afterEach(() => services.cleanup());

  const open = (output: Output, settings: object = {}) =>
    consoleSink(consolePlugin.options.parse(settings) as never, services, output);

  it('prints an aligned line per film on a terminal, under the notice', async () => {
    const screen = new Screen(true);
    const sink = open(screen);
    await sink.write([film('IM-0115.jpeg', { normal: 0.93, bacterial: 0.05, viral: 0.02 }, 41)]);
    await sink.write([
      film('person1_bacteria_1.jpeg', { normal: 0.02, bacterial: 0.971, viral: 0.009 }, 99.7),
    ]);
    expect(screen.text.split('\n')).to.deep.equal([
      'Not a medical device: for research, never for diagnosis.',
      '✓ IM-0115.jpeg             suspicion 0.22   normal     93 %  (bacterial 5 · viral 2)   anomaly 0.213  P  41',
      '⚑ person1_bacteria_1.jpeg   suspicion 0.52 (anogan)   bacterial  97 %  (normal 2 · viral 1)      anomaly 0.213  P  99',
      '',
    ]);
  });

  it('names the findings of a model that may give several, or that there is none', async () => {
    const screen = new Screen(true);
    const probabilities = { Mass: 0.64, Effusion: 0.91, Hernia: 0.1 };
    const result = { kind: 'classification', label: 'Effusion', probability: 0.91, probabilities, topK: [] };
    const frame = (positives: string[]): Frame =>
      makeFrame({ name: 'a.png', results: { findings: { ...result, positives } } });
    await open(screen).write([frame(['Mass', 'Effusion']), frame([])]);
    expect(screen.text)
      .to.include('Effusion 91 %, Mass 64 %')
      .and.include('no finding  (Effusion 91 · Mass 64');
  });

  it('counts the boxes of a detector', async () => {
    const screen = new Screen(true);
    const boxes = { kind: 'detection', count: 2, abnormal: true, suspicion: 0.9 };
    await open(screen).write([makeFrame({ name: 'a.png', results: { boxes } })]);
    expect(screen.text)
      .to.contain('⚑ a.png')
      .and.match(/suspicion 0\.90 \(boxes\) +found 2\n/);
  });

  it('never rounds a probability to certainty', async () => {
    const screen = new Screen(true);
    await open(screen).write([film('a.png', { normal: 0.9991, viral: 0.0009 }, null)]);
    expect(screen.text).to.match(/normal >99 % {2}\(viral <1\) {3}anomaly 0\.213\n$/);
  });

  it('flags a film that any stage calls abnormal', async () => {
    const screen = new Screen(true);
    const frame = film('a.png', { tuberculosis: 0.6, 'no finding': 0.4 }, 1);
    const classes = { ...frame.results['classes']!, abnormal: true, suspicion: 0.8 };
    await open(screen).write([{ ...frame, results: { ...frame.results, classes } }]);
    expect(screen.text).to.contain('⚑ a.png').and.contain('suspicion 0.80 (classes)');
  });

  it('keeps columns aligned for wide and long names', async () => {
    const screen = new Screen(true);
    await open(screen).write([
      film(`ward/${'x'.repeat(80)}-0002.png`, { normal: 1 }, 1),
      film('胸部X線.png', { normal: 1 }, 1),
      film('🫁.png', { normal: 1 }, 1),
    ]);
    const [, ...lines] = screen.text.trimEnd().split('\n');
    const columns = lines.map((line) => stringWidth(line.slice(0, line.indexOf('normal'))));
    expect(new Set(columns).size).to.equal(1);
    expect(lines[0]).to.contain('…').and.contain('-0002.png');
  });

  it('prints no control characters of file names', async () => {
    const screen = new Screen(true);
    await open(screen).write([film('a\u001B[2J\r\n\u202Egnp.png', { normal: 1 }, 1)]);
    expect(screen.text).to.contain('a�[2J���gnp.png');
  });

  it('names the stages where several are of one kind', async () => {
    const screen = new Screen(true);
    const frame = film('a.png', { normal: 1 }, 1);
    await open(screen).write([{ ...frame, results: { ...frame.results, second: frame.results.anogan! } }]);
    expect(screen.text).to.contain('anogan 0.213').and.contain('second 0.213');
  });

  it('prints the size of a film of which no stage found anything', async () => {
    const screen = new Screen(true);
    await open(screen).write([makeFrame({ name: 'a.png' })]);
    expect(screen.text).to.match(/· a\.png +8 × 6\n$/);
  });

  it('uses colours only where the terminal has them', async () => {
    const [plain, coloured] = [new Screen(true), new Screen(true, true)];
    for (const screen of [plain, coloured]) await open(screen).write([film('a.png', { normal: 1 }, 99)]);
    expect(plain.text).not.to.contain('\u001B[');
    expect(coloured.text).to.contain('\u001B[31m⚑');
  });

  it('prints JSON lines in a pipe, without pixels', async () => {
    const pipe = new Screen(false);
    await open(pipe).write([film('a.png', { normal: 1 }, 41), film('b\n.png', { normal: 1 }, 41)]);
    const lines = pipe.text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.map(({ file }) => file)).to.deep.equal(['a.png', 'b\n.png']);
    expect(lines[0]!.results).to.have.property('anogan').that.does.not.have.property('residual');
  });

  it('prints in the given format', async () => {
    const [terminal, pipe] = [new Screen(true), new Screen(false)];
    await open(terminal, { format: 'json' }).write([film('a.png', { normal: 1 }, 41)]);
    await open(pipe, { format: 'text' }).write([film('a.png', { normal: 1 }, 41)]);
    expect(terminal.text).to.match(/^\{"id"/);
    expect(pipe.text).to.match(/^Not a medical device/);
  });

  it('confirms films when its reader has gone', async () => {
    const script = `
      const { default: sink } = await import(${JSON.stringify(import.meta.resolve('../../src/sinks/console.js'))});
      const { makeFrame, testServices } = await import(${JSON.stringify(import.meta.resolve('../../src/testing.js'))});
      const services = testServices();
      const instance = await sink.create(sink.options.parse({}), services);
      for (let i = 0; i < 300; i++) await instance.write([makeFrame({ name: 'x'.repeat(1000) })]);
      await instance.dispose();
      services.cleanup();`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
    await once(child.stdout, 'data');
    child.stdout.destroy();
    const [code] = (await once(child, 'exit')) as [number];
    expect(complaint).to.equal('');
    expect(code).to.equal(0);
  });

  it('fails when its output fails', async () => {
    const full = new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error('no space left'), { code: 'ENOSPC' })),
    });
    let thrown: unknown;
    await open(full)
      .write([makeFrame()])
      .catch((error: unknown) => (thrown = error));
    expect(thrown).to.include({ code: 'OUTPUT_UNWRITABLE' });
  });
});
