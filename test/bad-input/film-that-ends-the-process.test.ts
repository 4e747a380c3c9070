import { expect } from 'chai';
import { join } from 'node:path';
import { requestReplay } from '../../src/core/dead-letter-entries.js';
import { film } from '../support/films.js';
import { GRAPH, Lab } from '../support/lab.js';

/** Stands for a fault in native code: no exception shows it. */
const STAGE = `
import { defineStage, z } from 'rxray';
export default defineStage({
  name: 'crash',
  summary: 'Test.',
  options: z.strictObject({}),
  create: () => ({
    async process(frame) {
      if (frame.origin.name !== 'bad.png') return frame;
      process.kill(process.pid, 'SIGSEGV');
      return new Promise(() => {});
    },
  }),
});`;

describe('a film that ends the process', () => {
  it('is put aside after three attempts, alone, and is processed again when it is replayed', async function () {
    this.timeout(300_000);
    const names = Array.from({ length: 12 }, (_, i) => `film-${String(i)}.png`);
    const png = (width: number): Promise<Buffer> => film(width, 32).png().toBuffer();
    const bad = await png(32);
    const others = await Promise.all(
      names.map(async (name, i) => [`inbox/${name}`, await png(33 + i)] as const),
    );
    const lab = await Lab.open(GRAPH.replace('- use: clahe', '- use: ./crash.ts'), {
      'crash.ts': STAGE,
      'inbox/bad.png': bad,
      ...Object.fromEntries(others),
    });
    try {
      const codes: (number | null)[] = [];
      do codes.push((await lab.run()).code);
      while (codes.at(-1) !== 1 && codes.length < 6);
      expect(codes).to.deep.equal([null, null, null, 1]);
      expect(await lab.delivered()).to.deep.equal(names.sort());
      const letters = await lab.letters();
      expect([...letters.keys()]).to.deep.equal(['bad.png']);
      expect(letters.get('bad.png')).to.include({ code: 'FRAME_CRASH', stage: null });
      expect(letters.get('bad.png')?.copy).to.deep.equal(bad);
      await lab.write('crash.ts', STAGE.replace('bad.png', 'none'));
      await requestReplay(join(lab.folder, '.rxray'), letters.get('bad.png')?.id ?? '');
      expect((await lab.run()).code).to.equal(0);
      expect(await lab.delivered()).to.deep.equal(['bad.png', ...names].sort());
    } finally {
      await lab.close();
    }
  });
});
