import { expect } from 'chai';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { RxrayError } from '../../src/core/errors.js';
import { readBoxes } from '../../src/training/boxes-manifest.js';
import { readDataset, type Dataset } from '../../src/training/dataset.js';

describe('training data', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-data-'));
  });
  afterEach(() => rm(dir, { recursive: true }));

  async function put(name: string, contents = name): Promise<void> {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), contents);
  }

  async function manifest(...lines: string[]): Promise<string> {
    await put('manifest.csv', lines.join('\r\n'));
    return join(dir, 'manifest.csv');
  }

  async function refused(path: string): Promise<string> {
    const error = await readDataset(path).then(
      () => expect.fail('it was accepted'),
      (e: unknown) => e,
    );
    expect(error).to.be.instanceOf(RxrayError).and.include({ code: 'TRAINING_DATA' });
    return (error as Error).message;
  }

  const splits = ({ films }: Dataset) => Object.fromEntries(films.map((film) => [film.name, film.split]));

  it('come from a manifest: classes sorted, counts by split and class, duplicates left out', async () => {
    for (const name of ['a.png', 'b.png', 'c.png', 'd.png']) await put(name);
    const path = await manifest(
      'path,split,class,patient,duplicate_of',
      'a.png,train,viral,p1,',
      'b.png,train,normal,p2,',
      'c.png,val,normal,p3,',
      'd.png,val,viral,p4,a.png',
    );
    const data = await readDataset(path);
    expect(data.classes).to.deep.equal(['normal', 'viral']);
    expect(data.counts).to.deep.equal({ train: { normal: 1, viral: 1 }, val: { normal: 1, viral: 0 } });
    expect(data.duplicates).to.equal(1);
    expect(data.films[0]).to.include({ path: join(dir, 'a.png'), class: 'viral', patient: 'p1' });
  });

  it('count a file once that is there twice', async () => {
    await put('normal/a.png', 'same');
    await put('normal/b.png', 'same');
    await put('ill/c.png');
    const data = await readDataset(dir);
    expect(data.films).to.have.length(2);
    expect(data.duplicates).to.equal(1);
  });

  it('take other column names', async () => {
    await put('a.png');
    const path = await manifest('file,label', 'a.png,normal');
    const data = await readDataset(path, { columns: { path: 'file', class: 'label' } });
    expect(data.films[0]).to.include({ name: 'a.png', class: 'normal' });
  });

  it('come from a table in the format of Keras, with paths relative to a directory', async () => {
    await put('films/a.png');
    const path = await manifest('filename,class', 'a.png,normal');
    const data = await readDataset(path, { directory: join(dir, 'films') });
    expect(data.films[0]).to.include({ path: join(dir, 'films', 'a.png'), name: 'a.png', class: 'normal' });
  });

  it('are reported with their problems', async () => {
    await put('train/normal/a.png');
    await put('train/ill/b.png');
    await put('train/ill/c.png', 'train/ill/b.png');
    await put('val/normal/d.png');
    expect((await readDataset(dir)).findings).to.deep.equal([
      '1 exact copies left out',
      'the patients of these films are not known: one patient may be in two splits, which makes the figures too good',
      'val has no films of ill',
    ]);
  });

  it('name the films that cannot be read, and are the others', async () => {
    await put('a.png');
    await put('empty.png', '');
    const path = await manifest('path,class,split', 'a.png,x,val', 'gone.png,x,train', 'empty.png,y,val');
    const { films, unreadable, duplicates, findings } = await readDataset(path);
    expect(films.map(({ name }) => name)).to.deep.equal(['a.png']);
    expect(unreadable.map(({ film }) => [film.name, film.split])).to.deep.equal([
      ['gone.png', 'train'],
      ['empty.png', 'val'],
    ]);
    expect(unreadable[1]?.reason).to.equal('the file is empty');
    expect(duplicates).to.equal(0);
    expect(findings[0]).to.match(
      /^2 films left out because they cannot be read \(gone\.png: ENOENT.*; empty\.png: /,
    );
  });

  it('come from a folder of classes, split by seed with every class in both splits', async () => {
    for (let i = 0; i < 20; i++) {
      await put(`normal/${i}.png`);
      await put(`ill/deep/${i}.jpeg`);
      await put(`ill/${i}.txt`);
    }
    const data = await readDataset(dir, { validation: 0.25, seed: 3 });
    expect(data.counts).to.deep.equal({ train: { ill: 15, normal: 15 }, val: { ill: 5, normal: 5 } });
    expect(splits(await readDataset(dir, { validation: 0.25, seed: 3 }))).to.deep.equal(splits(data));
    expect(splits(await readDataset(dir, { validation: 0.25, seed: 4 }))).to.not.deep.equal(splits(data));
  });

  it('come from a folder of splits', async () => {
    await put('train/normal/a.png');
    await put('train/ill/b.png');
    await put('val/normal/c.png');
    const data = await readDataset(dir);
    expect(splits(data)).to.deep.equal({
      'train/ill/b.png': 'train',
      'train/normal/a.png': 'train',
      'val/normal/c.png': 'val',
    });
    expect(data.patients).to.equal(null);
  });

  it('keep the films of a patient together', async () => {
    const lines = ['path,class,patient'];
    for (let i = 0; i < 60; i++) {
      await put(`${i}.png`);
      lines.push(`${i}.png,${i % 2 === 0 ? 'normal' : 'ill'},p${Math.floor(i / 4)}`);
    }
    const { films, counts, patients } = await readDataset(await manifest(...lines), { validation: 0.2 });
    expect(patients).to.equal(15);
    const seen = new Map<string, Set<string>>();
    for (const { patient, split } of films) seen.set(patient, (seen.get(patient) ?? new Set()).add(split));
    expect([...seen.values()].every((of) => of.size === 1)).to.equal(true);
    expect(counts.val?.normal).to.be.within(6, 8);
  });

  it('come from tables as Excel writes them: semicolons, tabs, UTF-16, blanks, other cases', async () => {
    await put('a.png');
    await put('b.png');
    for (const [delimiter, encoding] of [
      [';', 'utf8'],
      ['\t', 'utf16le'],
      [',', 'utf16le'],
    ] as const) {
      const lines = [
        ['\uFEFFpath', 'class'],
        ['a.png', 'Normal '],
        ['b.png', ' normal'],
      ];
      const text = lines.map((cells) => cells.join(delimiter)).join('\r\n');
      await writeFile(join(dir, 'table.csv'), Buffer.from(text, encoding));
      const { classes, films, findings } = await readDataset(join(dir, 'table.csv'));
      expect(films).to.have.length(2);
      expect(classes).to.deep.equal(['Normal']);
      expect(findings).to.include('Normal, normal are treated as one class, Normal');
    }
  });

  it('come from tables with a line `sep=`, UTF-16 of either order, quotes, and separators at the end', async () => {
    await put('a.png');
    await put('b.png');
    const table = '"path" ; " class " ;\r\n"a.png";x;\r\nb.png;y\r\n';
    const texts = [`sep=;\r\n${table}`, `\uFEFF"sep=;"\n${table}`, `SEP=\t\n${table.replaceAll(';', '\t')}`];
    for (const text of [table, ...texts]) {
      const little = Buffer.from(`\uFEFF${text.replace('\uFEFF', '')}`, 'utf16le');
      for (const bytes of [Buffer.from(text), little, Buffer.from(little).swap16()]) {
        await writeFile(join(dir, 'table.csv'), bytes);
        const { classes, films } = await readDataset(join(dir, 'table.csv'));
        expect([classes, films.length], JSON.stringify(text)).to.deep.equal([['x', 'y'], 2]);
      }
    }
    for (const [line, reason] of [
      ['path;class;class\na.png;x;y', 'two columns have the name "class"'],
      ['sep=;\npath;class\na.png;x\nb.png;y;z', 'line 4 has 3 cells, expected 2'],
    ] as const) {
      await writeFile(join(dir, 'table.csv'), line);
      const [outcome] = await Promise.allSettled([readDataset(join(dir, 'table.csv'))]);
      expect(outcome).to.have.nested.property('reason.message').that.contains(reason);
    }
  });

  it('have boxes with decimal commas where semicolons separate the cells', async () => {
    await writeFile(join(dir, 'boxes.csv'), 'sep=;\npath;label;x;y;w;h\na.png;mass;1,5;2;10,25;20\n');
    const [film] = await readBoxes(join(dir, 'boxes.csv'));
    expect(film?.boxes).to.deep.equal([{ x: 1.5, y: 2, width: 10.25, height: 20, label: 'mass' }]);
    await writeFile(join(dir, 'boxes.csv'), 'path,label,x,y,w,h\na.png,mass,"1,500",2,10,20\n');
    const [outcome] = await Promise.allSettled([readBoxes(join(dir, 'boxes.csv'))]);
    expect(outcome).to.have.nested.property('reason.message').that.contains('line 2');
  });

  it('are found in the other Unicode form, as macOS writes names', async () => {
    await put('Mu\u0308ller.png');
    const { films } = await readDataset(await manifest('path,class', 'M\u00fcller.png,x'));
    expect(films).to.have.length(1);
    await put('masks/Mu\u0308ller.png');
    const path = await manifest('path,mask', 'M\u00fcller.png,masks\\M\u00fcller.png');
    const { films: masked } = await readDataset(path, { masked: true });
    expect(masked[0]?.details?.mask).to.equal(join(dir, 'masks/Mu\u0308ller.png'));
  });

  it('leave out files that are not films, by name, and take films by their content', async () => {
    await put('Train/normal/IM0001', '\u0000'.repeat(128) + 'DICM');
    await put('Train/ill/a.png');
    await put('Train/ill/notes.txt');
    await put('Train/ill/.ipynb_checkpoints/a-checkpoint.png');
    await put('Test/ill/c.png');
    await put('.ipynb_checkpoints/x.png');
    await put('__MACOSX/x.png');
    const data = await readDataset(dir);
    expect(splits(data)).to.deep.equal({
      'Test/ill/c.png': 'test',
      'Train/ill/a.png': 'train',
      'Train/normal/IM0001': 'train',
    });
    expect(data.leftOut).to.deep.equal(['Train/ill/notes.txt']);
  });

  it('name the line of a row that cannot be read', async () => {
    await put('a.png');
    expect(await refused(await manifest('path,class,split', 'a.png,x,val', 'b.png,x'))).to.include('line 3');
  });

  it('name the line in which a quote opens that is never closed', async () => {
    const path = await manifest('path,class', 'a.png,x', '"b.png,x', 'c.png,x', 'd.png,x');
    expect(await refused(path)).to.include('line 3');
  });

  it('have one class for names that differ in blanks and invisible characters only', async () => {
    for (const name of ['a', 'b', 'c', 'd']) await put(`${name}.png`);
    const path = await manifest(
      'path,class',
      'a.png,No Finding',
      'b.png,No\u00a0Finding',
      'c.png,No  Finding\u200b',
      'd.png,\u2060ill',
    );
    expect((await readDataset(path)).classes).to.deep.equal(['No Finding', 'ill']);
  });

  it('have splits by their usual names, also in folders called `train_set` and `Test-Data`', async () => {
    for (const split of ['train_set', 'Test-Data', 'DEV']) await put(`${split}/ill/a.png`, split);
    expect(splits(await readDataset(dir))).to.deep.equal({
      'DEV/ill/a.png': 'val',
      'Test-Data/ill/a.png': 'test',
      'train_set/ill/a.png': 'train',
    });
  });

  it('have masks in a folder of the same names: hidden files left alone, films by their content', async () => {
    const film = (name: string) => '\u0000'.repeat(128) + 'DICM' + name;
    for (const name of ['IM0001', 'x.dicom', 'Mu\u0308ller.png']) await put(`images/${name}`, film(name));
    for (const name of ['IM0001.png', 'x.png', 'M\u00fcller.png']) await put(`masks/${name}`);
    for (const name of ['._IM0001', '.ipynb_checkpoints/a.png', 'notes.txt']) await put(`images/${name}`);
    const { films, leftOut } = await readDataset(dir, { masked: true });
    const masks = films.map(({ name, details }) => [name.normalize('NFC'), details?.mask?.normalize('NFC')]);
    expect(Object.fromEntries(masks)).to.deep.equal({
      'images/IM0001': join(dir, 'masks/IM0001.png'),
      'images/M\u00fcller.png': join(dir, 'masks/M\u00fcller.png'),
      'images/x.dicom': join(dir, 'masks/x.png'),
    });
    expect(leftOut).to.deep.equal(['images/notes.txt']);
  });

  it('have a fingerprint that changes with a file, a class or a split, and with nothing else', async () => {
    await put('a.png');
    await put('b.png');
    const header = 'path,class,split';
    const print = async (...lines: string[]) =>
      (await readDataset(await manifest(header, ...lines))).fingerprint;
    const first = await print('a.png,x,train', 'b.png,y,val');
    expect(await print('b.png,y,val', 'a.png,x,train')).to.equal(first);
    expect(await print('a.png,x,train', 'b.png,x,val')).to.not.equal(first);
    expect(await print('a.png,x,train', 'b.png,y,train')).to.not.equal(first);
    await put('b.png', 'other');
    expect(await print('a.png,x,train', 'b.png,y,val')).to.not.equal(first);
  });

  describe('are refused with a reason', () => {
    it('when there is nothing at the path', async () => {
      expect(await refused(join(dir, 'nowhere'))).to.include(
        'expected a manifest (CSV) or a folder of classes',
      );
    });

    it('when the folder has no class folders', async () => {
      await put('a.png');
      expect(await refused(dir)).to.include('expected one folder per class');
    });

    it('when a column is missing', async () => {
      expect(await refused(await manifest('file,class', 'a.png,x'))).to.include(
        'has no column "path": its columns are file, class',
      );
    });

    it('when no film can be read', async () => {
      const message = await refused(await manifest('path,class', 'gone.png,x'));
      expect(message).to.match(/^no film of .*manifest\.csv can be read: gone\.png: ENOENT/);
    });

    it('when a split is unknown', async () => {
      await put('a.png');
      expect(await refused(await manifest('path,class,split', 'a.png,x,holdout'))).to.include('"holdout"');
    });

    it('when only some films have a split', async () => {
      await put('a.png');
      await put('b.png');
      expect(await refused(await manifest('path,class,split', 'a.png,x,train', 'b.png,x,'))).to.include(
        '1 of 2 films have no split',
      );
    });

    it('when a patient is in two splits', async () => {
      await put('a.png');
      await put('b.png');
      const path = await manifest('path,class,split,patient', 'a.png,x,train,p1', 'b.png,x,val,p1');
      expect(await refused(path)).to.include('1 patients have films in more than one split (p1)');
    });

    it('when one film has two classes', async () => {
      await put('x/a.png', 'same');
      await put('y/b.png', 'same');
      expect(await refused(dir)).to.include('are the same file in two classes (x, y)');
    });
  });
});
