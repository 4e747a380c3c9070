import { execFileSync } from 'node:child_process';
import { expect } from 'chai';
import { mkdir, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RxrayError } from '../../src/core/errors.js';
import { BundleError, readBundle, readBundleFile } from '../../src/models/bundle.js';
import { requireBundlePlace, writeBundle } from '../../src/training/write-bundle.js';
import { bundleOf } from '../support/bundles.js';

describe('writing a bundle', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-write-bundle-'));
  });
  afterEach(() => rm(dir, { recursive: true }));

  const about = bundleOf({
    kind: 'classifier',
    input: { width: 8, height: 8, channels: 1, layout: 'NHWC', mean: [0], std: [1] },
  });
  const write = (to: string, model: string, card = 'the card') =>
    writeBundle(to, about, { model: Buffer.from(model) }, card);
  const model = async (from: string): Promise<string> =>
    Buffer.from(await readBundleFile(from, await readBundle(from), 'model')).toString();
  const names = async (of: string): Promise<string[]> => (await readdir(of)).sort();

  async function refused(promise: Promise<unknown>): Promise<string> {
    const error: unknown = await promise.then(
      () => expect.fail('it was accepted'),
      (thrown: unknown) => thrown,
    );
    expect(error).to.be.instanceOf(RxrayError).and.include({ code: 'BUNDLE_PLACE' });
    return (error as Error).message;
  }

  it('makes the folder, with its files, card and description, and nothing else', async () => {
    await write(join(dir, 'a', 'b'), 'one');
    expect(await names(join(dir, 'a', 'b'))).to.deep.equal(['README.md', 'bundle.json', 'model.onnx']);
    expect(await model(join(dir, 'a', 'b'))).to.equal('one');
  });

  it('replaces an earlier bundle, and keeps every file that is not part of it', async () => {
    const out = join(dir, 'out');
    await write(out, 'one');
    await writeFile(join(out, 'notes.txt'), 'mine');
    await mkdir(join(out, 'films'));
    await writeFile(join(out, 'films', 'a.png'), 'a film');
    for (const text of ['two', 'three', 'three']) {
      await write(out, text);
      expect(await model(out)).to.equal(text);
      expect(await names(out))
        .to.have.length(5)
        .and.include.members(['notes.txt', 'films', 'README.md']);
    }
    expect(await readFile(join(out, 'films', 'a.png'), 'utf8')).to.equal('a film');
  });

  it('keeps a card, and a network, that were edited', async () => {
    const out = join(dir, 'out');
    await write(out, 'one');
    await writeFile(join(out, 'README.md'), 'my own words');
    await writeFile(join(out, 'model.onnx'), 'my own weights');
    await write(out, 'two', 'another card');
    expect(await readFile(join(out, 'README.md'), 'utf8')).to.equal('another card');
    expect(await readFile(join(out, 'model.onnx'), 'utf8')).to.equal('my own weights');
    expect(await model(out)).to.equal('two');
    const kept = (await names(out)).filter((name) => name.startsWith('README-'));
    expect(await readFile(join(out, kept[0] ?? ''), 'utf8')).to.equal('my own words');
  });

  it('writes into the folder that a link leads to, and leaves the link', async () => {
    await write(join(dir, 'release-1'), 'one');
    await symlink('release-1', join(dir, 'current'));
    await write(join(dir, 'current'), 'two');
    expect(await model(join(dir, 'release-1'))).to.equal('two');
    expect(await names(dir)).to.deep.equal(['current', 'release-1']);
  });

  it('leaves the earlier bundle, and nothing half written, when it cannot finish', async () => {
    const out = join(dir, 'out');
    await write(out, 'one');
    const before = await names(out);
    const broken = writeBundle(out, { ...about, kind: 'no kind' as never }, { model: Buffer.of(1) }, '');
    expect(await broken.catch((error: unknown) => error)).to.be.instanceOf(Error);
    expect(await names(out)).to.deep.equal(before);
    expect(await model(out)).to.equal('one');
  });

  describe('is refused, and nothing is touched,', () => {
    it('where the folder holds other things', async () => {
      await mkdir(join(dir, 'normal'));
      await writeFile(join(dir, 'normal', 'film.png'), 'a film');
      expect(await refused(write(dir, 'one'))).to.match(/not empty \(normal\) and holds no bundle of rxray/);
      expect(await names(dir)).to.deep.equal(['normal']);
      expect(await names(join(dir, 'normal'))).to.deep.equal(['film.png']);
      await refused(requireBundlePlace('/'));
    });

    it('where bundle.json is not one of rxray', async () => {
      await writeFile(join(dir, 'bundle.json'), '{ "name": "of some other program" }');
      await refused(write(dir, 'one'));
      expect(await readFile(join(dir, 'bundle.json'), 'utf8')).to.include('some other program');
    });

    it('where there is a file, or a file above it', async () => {
      await writeFile(join(dir, 'file'), 'text');
      expect(await refused(write(join(dir, 'file'), 'one'))).to.include('it is not a folder');
      await refused(write(join(dir, 'file', 'below'), 'one'));
      expect(await readFile(join(dir, 'file'), 'utf8')).to.equal('text');
    });
  });

  it('is not read from a pipe, which would be waited for', async function () {
    if (process.platform === 'win32') this.skip();
    const out = join(dir, 'out');
    await write(out, 'one');
    await rm(join(out, 'model.onnx'));
    execFileSync('mkfifo', [join(out, 'model.onnx')]);
    const error: unknown = await model(out).catch((thrown: unknown) => thrown);
    expect(error).to.be.instanceOf(BundleError);
    expect((error as Error).message).to.include('it is not a regular file');
  });

  it('removes nothing outside the folder, whatever an earlier bundle.json names', async () => {
    const out = join(dir, 'out');
    await write(out, 'one');
    await writeFile(join(dir, 'outside'), 'one');
    const json = await readFile(join(out, 'bundle.json'), 'utf8');
    await writeFile(join(out, 'bundle.json'), json.replace('"model.onnx"', '"../outside"'));
    await refused(write(out, 'two'));
    expect(await readFile(join(dir, 'outside'), 'utf8')).to.equal('one');
  });
});
