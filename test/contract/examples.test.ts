import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { parse } from 'csv-parse/sync';
import { Receiver } from '../sinks/receiver.js';
import { referenceOf } from '../../src/models/reference.js';
import { toyAnogan } from '../support/bundles.js';
import { film } from '../support/films.js';
import { rxray } from '../support/lab.js';

describe('the graphs in examples/', function () {
  // each starts the whole program, engine included
  this.timeout(60_000);
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-examples-'));
    await cp(fileURLToPath(new URL('../../examples/', import.meta.url)), join(folder, 'examples'), {
      recursive: true,
    });
    await mkdir(join(folder, 'inbox'));
    for (const size of [64, 80, 96]) {
      await writeFile(join(folder, 'inbox', `${size}.png`), await film(size, size).png().toBuffer());
    }
    // every film is stranger than these
    const settings = { steps: 3, lambda: 0.1, learningRate: 0.05, restarts: 1 };
    const reference = { search: referenceOf([0, 0.001, 0.002], settings) };
    await toyAnogan(join(folder, 'models', 'chest-anogan'), { reference });
  });
  after(() => rm(folder, { recursive: true }));

  async function run(name: string): Promise<void> {
    const input = join(folder, 'inbox');
    const { code, stderr } = await rxray('run', join(folder, 'examples', name), '--once', '--input', input);
    expect(code, stderr).to.equal(0);
  }
  const rows = async (file: string, delimiter = ',') =>
    parse(await readFile(join(folder, 'examples', 'out', file)), { bom: true, delimiter });

  it('custom-stage.yaml runs a stage from a file', async () => {
    await run('custom-stage.yaml');
    const [header, ...films] = await rows('inverted.csv');
    expect(header).to.deep.equal(['file', 'id', 'meta.format', 'meta.bits', 'completedAt']);
    expect(films.map(([file]) => file).sort()).to.deep.equal(['64.png', '80.png', '96.png']);
  });

  it('two-sinks.yaml writes all films, and suspicious ones once more', async () => {
    await run('two-sinks.yaml');
    expect(await rows('all.csv')).to.have.lengthOf(4);
    const [header, ...films] = await rows('suspicious.csv', ';');
    expect(header).to.deep.equal(['file', 'id', 'suspicion', 'anomaly.anomalyScore', 'rank']);
    expect(films.map((film) => film.at(-1))).to.deep.equal(['look now', 'look now', 'look now']);
  });

  it('webhook.yaml tells a receiver of suspicious films, without their names', async () => {
    const receiver = await Receiver.listen();
    process.env.WEBHOOK_URL = receiver.url;
    try {
      await run('webhook.yaml');
      for (const { body } of receiver.requests) {
        expect(JSON.parse(body)).to.have.all.keys('id', 'suspicion', 'stage');
      }
      expect(receiver.requests).to.have.lengthOf(3);
    } finally {
      delete process.env.WEBHOOK_URL;
      await receiver.close();
    }
  });
});
