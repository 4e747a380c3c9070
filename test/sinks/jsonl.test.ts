import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { SinkInstance } from '../../src/core/plugin.js';
import jsonl from '../../src/sinks/jsonl.js';
import { verdictOf } from '../../src/core/verdict.js';
import { makeFrame, testServices, type TestServices } from '../../src/testing.js';

describe('the jsonl sink', () => {
  let folder: string;
  let path: string;
  let services: TestServices;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-jsonl-'));
    path = join(folder, 'results.jsonl');
  });
  afterEach(async () => {
    services.cleanup();
    await rm(folder, { recursive: true });
  });

  async function open(settings: object = {}): Promise<SinkInstance> {
    services = testServices({ baseDir: folder, stateDir: join(folder, '.rxray') });
    return jsonl.create(jsonl.options.parse({ path: 'results.jsonl', ...settings }), services);
  }
  const lines = async () =>
    (await readFile(path, 'utf8'))
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const film = (name: string) => makeFrame({ name, image: null });

  it('writes the results of the stages, without pixels', async () => {
    const residual = { width: 1, height: 1, channels: 1, data: new Uint8Array(1) };
    const anomaly = { kind: 'anomaly', anomalyScore: 0.2, rawSum: 3, percentile: 41, residual } as const;
    const sink = await open();
    await sink.write([makeFrame({ name: 'two\nlines.png', image: null, results: { anomaly } })]);
    await sink.dispose?.();
    const [{ id, ...film } = {}] = await lines();
    expect(id).to.match(/^[0-9a-f]{32}$/);
    expect(film).to.deep.equal({
      file: 'two\nlines.png',
      receivedAt: '2026-01-01T08:00:00.000Z',
      meta: {},
      verdict: verdictOf({}),
      results: { anomaly: { kind: 'anomaly', anomalyScore: 0.2, rawSum: 3, percentile: 41 } },
    });
  });

  it('leaves out the file name by option', async () => {
    const sink = await open({ includeFile: false });
    await sink.write([film('Doe, John.png')]);
    await sink.dispose?.();
    expect(await readFile(path, 'utf8')).not.to.contain('Doe');
  });

  it('cuts off and keeps rows that were never confirmed', async () => {
    const sink = await open();
    await sink.write([film('a.png')]);
    await sink.dispose?.();
    await appendFile(path, '{"id":"torn');
    const restarted = await open();
    await restarted.write([film('a.png'), film('b.png')]);
    await restarted.dispose?.();
    expect((await lines()).map(({ file }) => file)).to.deep.equal(['a.png', 'b.png']);
    const [torn = ''] = (await readdir(join(folder, '.rxray'))).filter((name) => name.endsWith('.torn'));
    expect(await readFile(join(folder, '.rxray', torn), 'utf8')).to.equal('{"id":"torn');
  });

  it('refuses another file, with the line', async () => {
    await writeFile(path, '{"id":"x"}\n[1, 2]\n');
    const [outcome] = await Promise.allSettled([open()]);
    expect(outcome).to.have.nested.property('reason.code', 'OUTPUT_UNWRITABLE');
    expect(outcome).to.have.nested.property('reason.message').that.contains('in line 2');
    expect(await readFile(path, 'utf8')).to.equal('{"id":"x"}\n[1, 2]\n');
  });

  it('rotates by size', async () => {
    const sink = await open({ rotate: { bytes: 1 } });
    for (const name of ['a.png', 'b.png', 'c.png']) await sink.write([film(name)]);
    await sink.dispose?.();
    expect((await readdir(folder)).filter((name) => name.endsWith('.jsonl'))).to.have.lengthOf(3);
    expect((await lines()).map(({ file }) => file)).to.deep.equal(['c.png']);
  });
});
