import { mkdir, readFile, symlink } from 'node:fs/promises';
import { expect } from 'chai';
import { blackPng, dicom, film } from '../support/films.js';
import { GRAPH, Lab, type Letter, type Result } from '../support/lab.js';

const GOOD = 'good.png';

/** Every film that must fail: its bytes, the code and a word of the reason. */
const BAD: Record<string, { bytes: () => Promise<Uint8Array>; code: string; says: RegExp }> = {
  'empty.png': { bytes: async () => Buffer.alloc(0), code: 'FRAME_EMPTY', says: /empty/i },
  'cut.png': {
    bytes: async () => (await film().png().toBuffer()).subarray(0, 1500),
    code: 'FRAME_DAMAGED',
    says: /truncated|damaged|end/i,
  },
  'cut.jpg': {
    bytes: async () => (await film().jpeg().toBuffer()).subarray(0, 900),
    code: 'FRAME_DAMAGED',
    says: /truncated|damaged|end/i,
  },
  'cut.dcm': {
    bytes: async () => dicom().subarray(0, 2000),
    code: 'FRAME_DAMAGED',
    says: /truncated|damaged|end|bytes/i,
  },
  'text.png': {
    bytes: async () => Buffer.from('Dear colleague, please find the film attached.'),
    code: 'FRAME_NOT_AN_IMAGE',
    says: /is none of PNG, JPEG/,
  },
  'notes.png': {
    bytes: async () => Buffer.from('The films of last week are on the other drive.'),
    code: 'FRAME_NOT_AN_IMAGE',
    says: /is none of PNG, JPEG/,
  },
  'huge.png': {
    bytes: async () => blackPng(20_000, 20_000),
    code: 'FRAME_TOO_LARGE',
    says: /20,?000/,
  },
};

const LONG = `${'x'.repeat(240)}.png`;

/** Films that look strange and are fine. */
const STRANGE: Record<string, () => Promise<Uint8Array>> = {
  'single-pixel.png': () => film(1, 1).png().toBuffer(),
  'one-bit.png': async () => blackPng(64, 48),
  'cmyk.jpg': () => film().toColourspace('cmyk').jpeg().toBuffer(),
  'alpha.png': () => film().toColourspace('srgb').ensureAlpha(0.5).png().toBuffer(),
  'animated.gif': () =>
    film(64, 128)
      .gif({ loop: 0, delay: [10, 10] })
      .toBuffer(),
  'größe-胸部-🩻.png': () => film(90, 70).png().toBuffer(),
  [LONG]: () => film(80, 60).png().toBuffer(),
  'ward-1/same.png': () => film(50, 50).png().toBuffer(),
  'ward-2/same.png': () => film(50, 50).png().toBuffer(),
};

describe('bad films in the folder', () => {
  let lab: Lab;
  let result: Result;
  let letters: Map<string, Letter>;
  const bytes = new Map<string, Uint8Array>();

  before(async () => {
    for (const [name, { bytes: make }] of Object.entries(BAD)) bytes.set(name, await make());
    for (const [name, make] of Object.entries(STRANGE)) bytes.set(name, await make());
    bytes.set(GOOD, await film().png().toBuffer());
    lab = await Lab.open(GRAPH);
    for (const [name, content] of bytes) await lab.write(`inbox/${name}`, content);
    await mkdir(lab.path('inbox/folder.png'));
    await lab.write('outside.png', await film().png().toBuffer());
    await symlink(lab.path('outside.png'), lab.path('inbox/link.png'));
    result = await lab.run();
    letters = await lab.letters();
  });

  after(() => lab.close());

  it('do not stop the run: it ends by itself with exit code 1', () => {
    expect(result.code, result.stderr).to.equal(1);
  });

  it('do not keep the other films from the CSV, each exactly once', async () => {
    expect(await lab.delivered()).to.deep.equal([GOOD, ...Object.keys(STRANGE)].sort());
  });

  for (const [name, { code, says }] of Object.entries(BAD)) {
    it(`${name} is named with its reason on standard error`, () => {
      const line = result.stderr.split('\n').find((each) => each.includes(name));
      expect(line, result.stderr).to.contain(code).and.match(says);
    });

    it(`${name} stays in its place, with a copy and the reason in the dead letter`, async () => {
      expect(await readFile(lab.path(`inbox/${name}`))).to.deep.equal(bytes.get(name));
      const letter = letters.get(name);
      expect(letter?.code).to.equal(code);
      expect(letter?.message).to.match(says);
      expect(letter?.copy).to.deep.equal(bytes.get(name));
    });
  }

  it('a symbolic link that leads out of the folder is refused, and what it points to is not copied', () => {
    expect(letters.get('link.png')).to.include({ code: 'FRAME_OUTSIDE', copy: null });
    expect(result.stderr).to.match(/link\.png.*FRAME_OUTSIDE/);
  });

  it('a folder with the name of an image is not a film', () => {
    expect([...letters.keys()]).to.have.members([...Object.keys(BAD), 'link.png']);
  });

  it('a second run repeats none of them, and says so', async () => {
    const again = await lab.run();
    expect(again.code, again.stderr).to.equal(0);
    expect(again.stderr).to.contain('already done').and.contain('--again');
    expect((await lab.delivered()).length).to.equal(1 + Object.keys(STRANGE).length);
  });
});
