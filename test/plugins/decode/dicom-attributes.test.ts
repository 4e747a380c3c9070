import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import decodeStage, { decode } from '../../../src/plugins/decode.js';
import { type AttributeName, ATTRIBUTES, USUAL } from '../../../src/plugins/decode/dicom/attributes.js';
import type { Item } from '../../../src/dicom/write.js';
import { dicomFile } from '../../support/dicom.js';
import { inBytes } from '../../../src/dicom/character-sets.js';
import { KEY_FILE, uidMap } from '../../../src/dicom/uid-map.js';
import { makeFrame, runStage, testServices } from '../../../src/testing.js';
import { fixture } from '../../support/goldens.js';

const text = (bytes: string, ...sets: string[]): string => inBytes(Buffer.from(bytes, 'latin1'), sets, []);

describe('DICOM character sets, on the examples of PS3.5, annexes H to K', () => {
  it('reads Japanese', () => {
    const kanji = '\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B';
    expect(text(`Yamada^Tarou=${kanji}`, '', 'ISO 2022 IR 87')).to.equal(
      'Yamada^Tarou=山田^太郎=やまだ^たろう',
    );
    expect(
      text(
        `\xd4\xcf\xc0\xde^\xc0\xdb\xb3=${kanji.replaceAll('(B', '(J')}`,
        'ISO 2022 IR 13',
        'ISO 2022 IR 87',
      ),
    ).to.equal('ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう');
  });

  it('reads Korean, Chinese and UTF-8', () => {
    const korean =
      'Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf';
    expect(text(korean, '', 'ISO 2022 IR 149')).to.equal('Hong^Gildong=洪^吉洞=홍^길동');
    expect(text('Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=', 'GB18030')).to.equal('Wang^XiaoDong=王^小东=');
    expect(text('\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1', 'ISO_IR 192')).to.equal('王^小東');
    expect(text('\xbb\xee\xda\xe1', 'ISO_IR 144')).to.equal('Люкс');
    expect(text('Buc^J\xe9r\xf4me', 'ISO_IR 100')).to.equal('Buc^Jérôme');
  });

  it('gives well-formed text, with a warning, whatever is mislabelled', () => {
    for (const [bytes, sets, expected] of [
      ['M\xc3\xbcller', [], 'Müller'],
      ['M\xfcller', [], 'Müller'],
      ['M\xfcller', ['ISO_IR 192'], 'Müller'],
      ['\x1b$B;', ['', 'ISO 2022 IR 87'], undefined],
      ['\x1b%Q\xff\xfe', ['NONSENSE'], undefined],
    ] as const) {
      const warnings: string[] = [];
      const read = inBytes(Buffer.from(bytes, 'latin1'), sets, warnings);
      expect(Buffer.from(read).toString()).to.equal(read);
      expect(warnings).to.have.length(1);
      if (expected !== undefined) expect(read).to.equal(expected);
    }
  });
});

describe('decode: DICOM attributes', () => {
  let stateDir: string;
  beforeEach(() => (stateDir = mkdtempSync(join(tmpdir(), 'rxray-attributes-'))));
  afterEach(() => rmSync(stateDir, { recursive: true }));

  async function attributes(settings: object, dir = stateDir): Promise<Record<string, unknown>> {
    const encoded = readFileSync(fixture('dicom/explicit-12bit-window.dcm'));
    const stage = await decodeStage.create(decodeStage.options.parse(settings), {
      ...testServices(),
      stateDir: dir,
    });
    const { image: _decoded, ...frame } = makeFrame();
    const [made] = await runStage(stage, [{ ...frame, encoded }]);
    if (made === undefined || made instanceof Error) throw made ?? new Error('nothing came out');
    return made.meta['dicom'] as Record<string, unknown>;
  }
  const all = ['PatientName', 'PatientID', 'StudyInstanceUID', 'SOPClassUID', 'Modality'];

  it('leaves out what identifies a patient, and maps UIDs by the key of the state folder', async () => {
    const basic = await attributes({ attributes: all });
    const open = await attributes({ attributes: all, deidentify: 'none' });
    expect(basic).to.have.keys('StudyInstanceUID', 'SOPClassUID', 'Modality');
    expect(open).to.include.keys('PatientName', 'PatientID');
    expect(basic['SOPClassUID']).to.equal(open['SOPClassUID']);
    expect(basic['StudyInstanceUID'])
      .to.match(/^2\.25\.\d{1,39}$/)
      .and.not.equal(open['StudyInstanceUID']);
    expect(await attributes({ attributes: all })).to.deep.equal(basic);
    expect(statSync(join(stateDir, KEY_FILE)).mode & 0o077).to.equal(0);
    const elsewhere = await attributes({ attributes: all }, join(stateDir, 'other'));
    expect(elsewhere['StudyInstanceUID']).not.to.equal(basic['StudyInstanceUID']);
  });

  it('refuses a key of another length: it would map UIDs to others than before', () => {
    mkdirSync(join(stateDir, 'damaged'), { recursive: true });
    writeFileSync(join(stateDir, 'damaged', KEY_FILE), 'short');
    expect(() => uidMap(join(stateDir, 'damaged')))
      .to.throw('it has 5 bytes, expected 32')
      .with.property('code', 'STATE_DAMAGED');
  });

  it('keeps what it is asked to keep', async () => {
    const kept = await attributes({
      attributes: all,
      deidentify: { keep: ['PatientID', 'StudyInstanceUID'] },
    });
    const open = await attributes({ attributes: all, deidentify: 'none' });
    expect(kept).to.have.keys('PatientID', 'StudyInstanceUID', 'SOPClassUID', 'Modality');
    expect(kept['StudyInstanceUID']).to.equal(open['StudyInstanceUID']);
  });

  it('passes on codes only if they are known terms, and by default no free text', async () => {
    const name = 'DOE JOHN 1950';
    const coded = Object.entries(ATTRIBUTES).filter(([, { vr, action }]) => vr === 'CS' && action === 'keep');
    const others: Item = [
      ...coded.map(([, { tag, vr }]): Item[number] => [tag, vr, name]),
      [0x00080070, 'LO', name],
      [0x00081090, 'LO', name],
    ];
    const encoded = dicomFile(1, { others });
    const syntax = Buffer.from('1.2.840.10008.1.2.1\0');
    encoded.write('DOE^JOHN 1950-01-01\0', encoded.indexOf(syntax), 'latin1');
    const uids = uidMap(stateDir);
    const made = async (attributes: readonly AttributeName[]) => {
      const limits = { color: 'grey', maxPixels: 1e6, maxBytes: 1e7 } as const;
      return (await decode(encoded, { ...limits, attributes, deidentify: 'basic', mapUid: uids })).meta;
    };
    expect(JSON.stringify(await made(USUAL))).not.to.include('DOE');
    expect(JSON.stringify(await made(coded.map(([keyword]) => keyword as AttributeName)))).not.to.include(
      'DOE',
    );
    expect(await made(['Manufacturer'])).to.have.nested.property('dicom.Manufacturer', name);
    const known: Item = [
      [0x00180015, 'CS', 'CHEST'],
      [0x00200020, 'CS', 'L\\AF'],
      [0x00200060, 'CS', 'R'],
    ];
    const { meta } = await decode(dicomFile(1, { others: known }), {
      ...{ color: 'grey', maxPixels: 1e6, maxBytes: 1e7, deidentify: 'basic', mapUid: uids },
      attributes: ['BodyPartExamined', 'PatientOrientation', 'Laterality'],
    });
    expect(meta['dicom']).to.deep.equal({
      BodyPartExamined: 'CHEST',
      PatientOrientation: ['L', 'AF'],
      Laterality: 'R',
    });
  });

  it('refuses an attribute that it does not have', () => {
    expect(decodeStage.options.safeParse({ attributes: ['PatientNme'] }).success).to.equal(false);
  });
});
