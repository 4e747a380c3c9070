import { readdir } from 'node:fs/promises';
import { expect } from 'chai';
import { dicomFile } from '../support/dicom.js';
import { Lab } from '../support/lab.js';

const FRAMES = 40;
const GRAPH = `
version: 1
sources:
  - use: watch
    with: { path: ./in, settleMs: 0, scanMs: 200, onDone: move, moveTo: ./done }
stages:
  - use: decode
    with: { frames: all }
sinks:
  - use: csv
    with: { path: ./out.csv }
`;

describe('rxray run with `frames: all`', () => {
  it('delivers every frame once, and the file at the end, through a kill in between', async () => {
    const pixels = Buffer.alloc(64 * 64 * 2 * FRAMES);
    for (let i = 0; i < pixels.length; i += 2) pixels.writeUInt16LE((i * 7 + (i >> 13)) % 4096, i);
    const film = dicomFile(1, {
      others: [
        [0x00280008, 'IS', String(FRAMES)],
        [0x7fe00010, 'OW', pixels],
      ],
    });
    const lab = await Lab.open(GRAPH, { 'in/loop.dcm': film });
    try {
      const first = lab.start();
      await first.until(async () => (await lab.delivered()).length > 0);
      await first.kill();
      const second = await lab.run();
      expect(second.code, second.stderr).to.equal(0);
      const names = await lab.delivered();
      expect(names).to.have.length(FRAMES);
      expect(new Set(names).size).to.equal(FRAMES);
      expect(await readdir(lab.path('in'))).to.deep.equal([]);
      expect(await readdir(lab.path('done'))).to.deep.equal(['loop.dcm']);
    } finally {
      await lab.close();
    }
  });
});
