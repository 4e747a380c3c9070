import { copyFile, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { toyAnogan, toyClassifier, toyDetector } from '../support/bundles.js';
import { rxray, type Result } from '../support/lab.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const verify = (...args: string[]): Promise<Result> => rxray('verify', ...args);

describe('rxray verify', function () {
  this.timeout(120_000);
  let dir: string;
  const chain = (side: number, last: object[] = []) => [
    { use: 'decode', with: { color: 'grey' } },
    { use: 'clahe', with: {} },
    { use: 'resize', with: { width: side, height: side } },
    ...(last as { use: string; with: Record<string, unknown> }[]),
  ];
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-verify-test-'));
    await mkdir(join(dir, 'films', 'ward'), { recursive: true });
    await copyFile(join(ROOT, 'fixtures/film-8bit.png'), join(dir, 'films', 'one.png'));
    await copyFile(join(ROOT, 'fixtures/film-16bit.png'), join(dir, 'films', 'ward', 'two.png'));
    await toyClassifier(join(dir, 'classifier'), { preprocessing: chain(32) });
    await toyAnogan(join(dir, 'anogan'), { preprocessing: chain(64) });
    await toyDetector(join(dir, 'detector'), { preprocessing: chain(32) });
    const boxes = ['path,label,x,y,w,h', 'films/one.png,mass,1,2,3,4', 'films/ward/two.png,,,,,'];
    await writeFile(join(dir, 'boxes.csv'), boxes.join('\n'));
  });
  after(() => rm(dir, { recursive: true }));

  it('finds four ways equal to the last bit, for a classifier, a search and a detector', async () => {
    for (const [bundle, data] of [
      ['classifier', 'films'],
      ['anogan', 'films'],
      ['detector', 'boxes.csv'],
    ] as const) {
      const { code, stdout, stderr } = await verify(join(dir, bundle), '--data', join(dir, data), '--json');
      expect(code, stdout + stderr).to.equal(0);
      const found = JSON.parse(stdout) as Record<string, unknown>;
      expect(found).to.deep.include({ model: 'toy', films: 2, same: true, differences: [], phantom: null });
      expect(found.maxScoreDifference).to.be.a('number').at.most(1e-6);
    }
  });

  it('names each film and way with another tensor', async () => {
    // A stage that is not a function of the film alone: brighter by one level each time.
    await writeFile(
      join(dir, 'drift.mjs'),
      `import { appendFileSync, readFileSync } from 'node:fs';
      import { defineStage, imageOf, z } from 'rxray';
      const file = ${JSON.stringify(join(dir, 'count'))};
      export default defineStage({
        name: 'drift',
        summary: 'Never the same.',
        options: z.strictObject({}),
        create: () => ({
          process(frame) {
            appendFileSync(file, '.');
            const more = readFileSync(file).length;
            const image = imageOf(frame);
            return { ...frame, image: { ...image, data: image.data.map((v) => Math.min(255, v + more)) } };
          },
        }),
      });`,
    );
    const drifting = chain(32, [{ use: join(dir, 'drift.mjs'), with: {} }]);
    await toyClassifier(join(dir, 'drifting'), { preprocessing: drifting });
    const args = [join(dir, 'drifting'), '--data', join(dir, 'films'), '--limit', '1'];
    const { code, stdout } = await verify(...args, '--json');
    expect(code).to.equal(1);
    const { differences } = JSON.parse(stdout) as {
      differences: { film: string; way: string; what: string }[];
    };
    const [first] = differences;
    expect(first).to.include({ film: 'one.png', way: 'run' });
    expect(first?.what).to.match(/^the tensor differs in \d+ of 1024 values, by up to 0\.00392$/);
    expect((await readFile(join(dir, 'count'), 'utf8')).length).to.equal(2);
  });

  it('names a film that cannot be read, and compares the others', async () => {
    const films = join(dir, 'damaged');
    await cp(join(dir, 'films'), films, { recursive: true });
    await writeFile(join(films, 'bad.png'), 'no image at all');
    const { code, stdout } = await verify(join(dir, 'classifier'), '--data', films, '--json');
    expect(code).to.equal(1);
    const found = JSON.parse(stdout) as { unreadable: { film: string; reason: string }[] };
    expect(found).to.deep.include({ films: 2, same: true, differences: [] });
    expect(found.unreadable.map(({ film }) => film)).to.deep.equal(['bad.png']);
  });

  it('takes columns, folder and split of a manifest as an evaluation does', async () => {
    const rows = [
      'file,class,part',
      'one.png,normal,train',
      'ward/two.png,normal,test',
      'gone.png,normal,train',
    ];
    await writeFile(join(dir, 'named.csv'), rows.join('\n'));
    const { code, stdout, stderr } = await verify(
      ...[join(dir, 'classifier'), '--data', join(dir, 'named.csv'), '--directory', join(dir, 'films')],
      ...['--columns', 'path=file,split=part', '--split', 'test', '--json'],
    );
    expect(code, stdout + stderr).to.equal(0);
    expect(JSON.parse(stdout)).to.deep.include({ films: 1, unreadable: [] });
  });

  it('ends with 2 if there are no films', async () => {
    const { code, stderr } = await verify(join(dir, 'classifier'), '--data', join(dir, 'nowhere'));
    expect(code).to.equal(2);
    expect(stderr).to.include('cannot be read');
  });
});
