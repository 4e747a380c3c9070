import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Command } from 'commander';
import { phantoms } from '../../src/cli/phantoms.js';
import { readDataset } from '../../src/training/dataset.js';

describe('rxray phantoms', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-phantoms-'));
  });
  afterEach(() => rm(dir, { recursive: true }));

  it('draws films and says where their opacities are, the same for the same seeds', async () => {
    const draw = async (name: string, ...flags: string[]): Promise<string> => {
      const program = new Command().exitOverride();
      phantoms(program);
      await program.parseAsync(['phantoms', join(dir, name), '--size', '64', '--json', ...flags], {
        from: 'user',
      });
      return readFile(join(dir, name, 'boxes.csv'), 'utf8');
    };
    const first = await draw('first', '-n', '6', '--opacities', '2');
    expect(await readdir(join(dir, 'first'))).to.have.length(7);
    const { films, classes } = await readDataset(join(dir, 'first', 'boxes.csv'), {
      boxed: true,
      validation: 0,
    });
    expect(films).to.have.length(6);
    expect(classes).to.deep.equal(['none', 'opacity']);
    const boxes = films.flatMap((film) => film.boxes ?? []);
    for (const { x, y, width, height } of boxes) {
      expect(Math.min(x, y, width, height)).to.be.at.least(0);
      expect(Math.max(x + width, y + height)).to.be.at.most(64);
    }
    const later = await draw('later', '-n', '4', '--seed', '3', '--opacities', '2');
    expect(first.slice(first.indexOf('phantom-3.png'))).to.equal(later.slice(later.indexOf('phantom-3.png')));
  });
});
