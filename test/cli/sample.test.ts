import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import sharp from 'sharp';
import { toyAnogan, toyClassifier } from '../support/bundles.js';
import { rxray } from '../support/lab.js';

describe('rxray sample', function () {
  this.timeout(60_000);
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-sample-'));
    await toyAnogan(join(folder, 'anogan'));
  });
  after(() => rm(folder, { recursive: true }));

  it('draws a contact sheet', async () => {
    const sheet = join(folder, 'sheet.png');
    const { code, stderr } = await rxray('sample', join(folder, 'anogan'), '-n', '5', '--sheet', sheet);
    expect(code, stderr).to.equal(0);
    const { width, height } = await sharp(sheet).metadata();
    expect([width, height]).to.deep.equal([8 + 3 * 264, 8 + 2 * 264]);
  });

  it('writes one file a film, the same for the same seed', async () => {
    const draw = async (dir: string, seed: string): Promise<Buffer[]> => {
      const out = join(folder, dir);
      const { code } = await rxray('sample', join(folder, 'anogan'), '-n', '2', '--seed', seed, '--out', out);
      expect(code).to.equal(0);
      const names = await readdir(out);
      expect(names).to.deep.equal(['sample-1.png', 'sample-2.png']);
      return Promise.all(names.map((name) => readFile(join(out, name))));
    };
    const first = await draw('a', '1');
    expect(await draw('b', '1')).to.deep.equal(first);
    expect(await draw('c', '2')).to.not.deep.equal(first);
  });

  it('names the films with an opacity, and refuses a number that it cannot draw', async () => {
    const out = join(folder, 'opacities');
    const bundle = join(folder, 'anogan');
    const { code } = await rxray('sample', bundle, '-n', '3', '--opacities', '--out', out);
    expect(code).to.equal(0);
    expect(await readdir(out)).to.deep.equal(['sample-1.png', 'sample-2.png', 'sample-3-opacity.png']);
    const tooMany = await rxray('sample', bundle, '-n', '100000000');
    expect(tooMany.code).to.equal(2);
    expect(tooMany.stderr).to.contain('expected a whole number from 1 to 10000');
  });

  it('says what is wrong with a bundle that has no generator, and exits with 2', async () => {
    await toyClassifier(join(folder, 'resnet'));
    const { code, stderr } = await rxray('sample', join(folder, 'resnet'));
    expect(code).to.equal(2);
    expect(stderr).to.contain('no file for "search"');
  });
});
