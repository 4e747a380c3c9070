import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import {
  discardEntry,
  listEntries,
  requestedReplays,
  requestReplay,
} from '../../src/core/dead-letter-entries.js';

describe('the dead letter with a damaged entry', () => {
  const id = (digit: number): string => String(digit).repeat(32);
  const whole = { source: 'watch', file: 'c.png', code: 'FRAME_DAMAGED', message: 'no', at: '2026-01-01' };
  let state: string;

  beforeEach(async () => {
    state = await mkdtemp(join(tmpdir(), 'rxray-entries-'));
    const reasons = ['', '{"file": "b', 'null', '[]', '{"at": 5}', '{}', JSON.stringify(whole)];
    for (const [n, reason] of reasons.entries()) {
      await mkdir(join(state, 'deadletter', id(n)), { recursive: true });
      await writeFile(join(state, 'deadletter', id(n), 'film.png'), 'pixels');
      await writeFile(join(state, 'deadletter', id(n), 'reason.json'), reason);
    }
    await writeFile(join(state, 'deadletter', id(8)), 'a file in place of a folder');
  });
  afterEach(() => rm(state, { recursive: true }));

  it('lists every entry, the damaged ones by the name of their film', async () => {
    const entries = await listEntries(state);
    expect(entries.map((entry) => entry.id).sort()).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 8].map(id));
    expect(entries.find((entry) => entry.id === id(6))).to.include({ ...whole });
    for (const entry of entries) {
      if (entry.id === id(6)) continue;
      expect(entry).to.include({ code: 'DEADLETTER_DAMAGED', source: '' });
      expect(entry.file).to.equal(entry.id === id(8) ? '(unknown)' : 'film.png');
    }
  });

  it('replays and discards them like any other', async () => {
    for (const n of [0, 6]) await requestReplay(state, id(n));
    expect((await requestedReplays(state)).map((entry) => entry.id).sort()).to.deep.equal([id(0), id(6)]);
    await discardEntry(state, id(0));
    expect(await listEntries(state)).to.have.lengthOf(7);
  });
});
