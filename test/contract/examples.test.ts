import { cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { parse } from 'csv-parse/sync';
import { Receiver } from '../sinks/receiver.js';
import { rxray } from '../support/lab.js';

const HOME = fileURLToPath(new URL('../../', import.meta.url));
/** Of the six films, those that the shipped models call abnormal. */
const SUSPICIOUS = 2;

describe('the graphs in examples/', function () {
  // each starts the whole program, engine included
  this.timeout(60_000);
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-examples-'));
    await cp(join(HOME, 'examples'), join(folder, 'examples'), { recursive: true });
    await symlink(join(HOME, 'models'), join(folder, 'models'));
    await cp(join(HOME, 'samples'), join(folder, 'inbox'), { recursive: true });
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
    expect(films).to.have.lengthOf(6);
    for (const [file] of films) expect(file).to.match(/^sample-\d.*\.jpg$/);
  });

  it('two-sinks.yaml writes all films, and suspicious ones once more', async () => {
    await run('two-sinks.yaml');
    expect(await rows('all.csv')).to.have.lengthOf(7);
    const [header, ...films] = await rows('suspicious.csv', ';');
    expect(header).to.deep.equal(['file', 'id', 'suspicion', 'anomaly.anomalyScore', 'rank']);
    expect(films.map((film) => film.at(-1))).to.deep.equal(Array(SUSPICIOUS).fill('look now'));
  });

  it('webhook.yaml tells a receiver of suspicious films, without their names', async () => {
    const receiver = await Receiver.listen();
    process.env.WEBHOOK_URL = receiver.url;
    try {
      await run('webhook.yaml');
      for (const { body } of receiver.requests) {
        expect(JSON.parse(body)).to.have.all.keys('id', 'suspicion', 'stage');
      }
      expect(receiver.requests).to.have.lengthOf(SUSPICIOUS);
    } finally {
      delete process.env.WEBHOOK_URL;
      await receiver.close();
    }
  });
});
