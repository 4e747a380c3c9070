import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { expect } from 'chai';
import type { FilmGroup } from '../../src/core/plugin.js';
import { dicomFile, execute, freePort, has, testUid } from '../support/dicom.js';
import { Lab } from '../support/lab.js';

const graphAt = (port: number): string => `
version: 1
sources:
  - use: dimse
    with: { port: ${port}, callers: [{ aeTitle: SENDER }], minFreeBytes: 0 }
stages:
  - use: decode
  - use: resize
    with: { width: 32, height: 32 }
sinks:
  - use: csv
    with: { path: ./out.csv }
`;

const groupedAt = (port: number): string => `
version: 1
sources:
  - use: dimse
    with:
      port: ${port}
      callers: [{ aeTitle: SENDER }]
      minFreeBytes: 0
      onDone: delete
      groups: { by: study, complete: { count: ${OF_A_STUDY}, afterMs: 3000 } }
stages:
  - use: decode
sinks:
  - use: jsonl
    with: { path: ./out.jsonl }
`;
const OF_A_STUDY = 8;

/** How many films each of the four senders has. The bench sends more: `npm run chaos:dicom`. */
const EACH = Number(process.env['RXRAY_DICOM_FILMS'] ?? 100) / 4;

describe('rxray run with a DICOM receiver', () => {
  it('loses and repeats nothing when four send at once and the process is killed in between', async function () {
    if (!has('storescu')) this.skip();
    this.timeout(600_000);
    const port = await freePort();
    const lab = await Lab.open(graphAt(port));
    try {
      for (let sender = 0; sender < 4; sender++) {
        await mkdir(lab.path(`sender-${sender}`));
        for (let i = 0; i < EACH; i++) {
          const film = dicomFile(sender * EACH + i, { patient: `P^${sender}` });
          await writeFile(lab.path(`sender-${sender}/${i}.dcm`), film);
        }
      }
      const received = async (): Promise<number> => {
        const found = await readdir(lab.path('received'), { recursive: true }).catch(() => []);
        return found.filter((name) => name.endsWith('.dcm')).length;
      };
      /** Sends until everything is confirmed, as a PACS does. */
      const send = async (sender: number): Promise<void> => {
        const args = [
          '-aet',
          'SENDER',
          '-aec',
          'RXRAY',
          '127.0.0.1',
          String(port),
          '+sd',
          lab.path(`sender-${sender}`),
        ];
        while ((await execute('storescu', args)).code !== 0) await setTimeout(50);
      };
      const first = lab.start();
      const sent = Promise.all([0, 1, 2, 3].map(send));
      await first.until(async () => (await received()) >= EACH);
      await first.kill();
      const second = lab.start();
      await sent;
      await second.until(async () => (await lab.delivered()).length >= 4 * EACH);
      second.interrupt();
      expect((await second.ended()).code).to.equal(0);
      expect(await received()).to.equal(4 * EACH);
      const names = await lab.delivered();
      expect(new Set(names).size).to.equal(4 * EACH);
      expect(names).to.have.length(4 * EACH);
      expect(await readdir(join(lab.path('received'), '.incoming'))).to.deep.equal([]);
    } finally {
      await lab.close();
    }
  });

  it('processes whole studies, each film once, when the process is killed between two of their films', async function () {
    if (!has('storescu')) this.skip();
    this.timeout(120_000);
    const port = await freePort();
    const lab = await Lab.open(groupedAt(port));
    const STUDIES = 4;
    try {
      // Of the last study, only two films come.
      const films = Array.from({ length: STUDIES * OF_A_STUDY + 2 }, (_, i) => i);
      for (const i of films) {
        const study = testUid('study', Math.floor(i / OF_A_STUDY));
        await lab.write(`sent/${i}.dcm`, dicomFile(i, { others: [[0x0020000d, 'UI', study]] }));
      }
      const send = async (): Promise<void> => {
        const args = ['-aet', 'SENDER', '-aec', 'RXRAY', '127.0.0.1', String(port), '+sd', lab.path('sent')];
        while ((await execute('storescu', args)).code !== 0) await setTimeout(50);
      };
      const lines = async (): Promise<{ file: string; meta: { group: FilmGroup } }[]> => {
        const text = await readFile(lab.path('out.jsonl'), 'utf8').catch(() => '');
        const whole = text.slice(0, text.lastIndexOf('\n') + 1);
        return whole
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line) as { file: string; meta: { group: FilmGroup } });
      };
      const first = lab.start();
      await send();
      await first.until(async () => (await lines()).length > 0);
      await first.kill();
      const second = lab.start();
      await second.until(async () => (await lines()).length >= films.length);
      second.interrupt();
      expect((await second.ended()).code).to.equal(0);
      const found = await lines();
      expect(found).to.have.length(films.length);
      expect(new Set(found.map(({ file }) => file)).size).to.equal(films.length);
      const groups = new Map<string, FilmGroup[]>();
      for (const { meta } of found)
        groups.set(meta.group.id, [...(groups.get(meta.group.id) ?? []), meta.group]);
      expect([...groups.values()].map((each) => each.length).sort()).to.deep.equal([2, 8, 8, 8, 8]);
      for (const each of groups.values()) {
        const complete = each.length === OF_A_STUDY;
        for (const group of each) expect(group).to.deep.include({ films: each.length, complete });
      }
      expect(await readdir(join(lab.path('received'), '.groups'))).to.deep.equal([]);
    } finally {
      await lab.close();
    }
  });
});
