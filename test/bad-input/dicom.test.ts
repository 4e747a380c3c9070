import { deflateRawSync } from 'node:zlib';
import { expect } from 'chai';
import { RxrayError } from '../../src/core/errors.js';
import type { Image } from '../../src/core/frame.js';
import { PIXEL_DATA } from '../../src/dicom/data-set.js';
import { parse } from '../../src/dicom/parse.js';
import { DEFLATED } from '../../src/dicom/syntaxes.js';
import type { bytesOf } from '../../src/dicom/write.js';
import { metaHeader } from '../../src/dicom/part10.js';
import decodeStage, { decode } from '../../src/plugins/decode.js';
import type { Decoded } from '../../src/plugins/decode/decoder.js';
import { uncode } from '../../src/plugins/decode/dicom/codec.js';
import { Random } from '../chaos/random.js';
import { CR, dicomFile, testUid } from '../support/dicom.js';
import { type SyntaxFile, syntaxFiles } from '../support/dicom-syntaxes.js';

/** How many cases each kind of damage has in all; `npm run chaos:dicom` makes more. */
const CASES = Number(process.env['RXRAY_DICOM_CASES'] ?? 30);
const SEED = Number(process.env['RXRAY_DICOM_SEED'] ?? 1);
const LIMITS = { maxPixels: 4_000_000, maxBytes: 4_000_000 };

const { attributes } = decodeStage.options.parse({}) as { attributes: never };
const run = (bytes: Buffer): Promise<Decoded> =>
  decode(bytes, { color: 'keep', ...LIMITS, attributes, deidentify: 'none', mapUid: (uid) => uid });

/** The picture, or the error, which must be one of ours with a reason. */
async function outcome(bytes: Buffer): Promise<Decoded | RxrayError> {
  try {
    return await run(bytes);
  } catch (error) {
    if (!(error instanceof RxrayError)) throw error;
    expect(error.code).to.match(/^FRAME_(?:DAMAGED|UNSUPPORTED|NOT_AN_IMAGE|TOO_LARGE|NO_PIXELS|EMPTY)$/);
    expect(error.message, error.code).to.match(/^.{20,400}$/su);
    return error;
  }
}

const isSame = (a: Image, b: Image): boolean =>
  a.data.length === b.data.length && Buffer.from(a.data.buffer).equals(Buffer.from(b.data.buffer));

/** A file of which one thing is known: the bytes before its pixels, and one fragment or all its pixels. */
interface Subject extends SyntaxFile {
  readonly good: Image;
  /** Where its pixels begin. */
  readonly pixels: number;
  /** Where its only fragment is, of an encapsulated file. */
  readonly fragment: { readonly start: number; readonly end: number } | undefined;
}

async function subjectOf(file: SyntaxFile): Promise<Subject> {
  const { image: good } = await run(file.bytes);
  const { dataSet, syntax } = parse(file.bytes, LIMITS, []);
  const element = dataSet.elements.get(PIXEL_DATA);
  if (element === undefined || syntax === DEFLATED)
    return { ...file, good, pixels: 144 + file.bytes.readUInt32LE(140), fragment: undefined };
  const { offset: pixels, undefinedLength } = element;
  if (!undefinedLength) return { ...file, good, pixels, fragment: undefined };
  const item = pixels + 8 + file.bytes.readUInt32LE(pixels + 4);
  const start = item + 8;
  return { ...file, good, pixels, fragment: { start, end: start + file.bytes.readUInt32LE(item + 4) } };
}

/** The file with another stream as its only fragment. */
function withStream({ bytes, fragment }: Subject, stream: Buffer): Buffer {
  if (fragment === undefined) throw new Error('it is not encapsulated');
  const even = stream.length % 2 === 0 ? stream : Buffer.concat([stream, Buffer.of(0)]);
  const head = Buffer.from(bytes.subarray(0, fragment.start));
  head.writeUInt32LE(even.length, fragment.start - 4);
  return Buffer.concat([head, even, bytes.subarray(fragment.end)]);
}

/** Changes, repeats, removes or inserts some bytes between two places. */
function damage(bytes: Buffer, start: number, end: number, random: Random): Buffer {
  const damaged = Buffer.from(bytes);
  const place = (): number => start + random.below(Math.max(1, end - start));
  switch (random.below(6)) {
    case 0: {
      const [at, length] = [place(), 1 + random.below(64)];
      return Buffer.concat([damaged.subarray(0, at), damaged.subarray(at + length)]);
    }
    case 1: {
      const [at, length] = [place(), 1 + random.below(64)];
      return Buffer.concat([damaged.subarray(0, at + length), damaged.subarray(at)]);
    }
    case 2: {
      const at = place();
      damaged.fill(random.pick([0, 0xff, 0x7f]), at, Math.min(damaged.length, at + random.below(32)));
      return damaged;
    }
    case 3: {
      const at = Math.min(place(), damaged.length - 4);
      damaged.writeUInt32LE(random.pick([0, 1, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff]), at);
      return damaged;
    }
    default:
      for (let i = 0; i <= random.below(4); i++) damaged[place()] = random.below(256);
      return damaged;
  }
}

describe('hostile DICOM files', function () {
  this.timeout(CASES * 1000 + 300_000);
  let subjects: Subject[];
  const worst = { ms: 0, name: '' };
  const tally = { cases: 0, errors: 0 };

  before(async () => {
    subjects = [];
    for (const file of syntaxFiles()) subjects.push(await subjectOf(file));
  });

  after(() => {
    if (CASES <= 30) return;
    const memory = Math.round(process.resourceUsage().maxRSS / 1024);
    console.log(
      `      ${tally.cases} cases, ${tally.errors} errors; slowest ${Math.round(worst.ms)} ms (${worst.name}); at most ${memory} MB`,
    );
  });

  /** Decodes a bad file, then the good one: the codec must not have been harmed. */
  async function attempt(subject: Subject, bytes: Buffer, what: string): Promise<Decoded | RxrayError> {
    const started = performance.now();
    const found = await outcome(bytes).catch((error: unknown) => {
      throw new Error(`${subject.name}, ${what}`, { cause: error });
    });
    const ms = performance.now() - started;
    tally.cases += 1;
    if (found instanceof RxrayError) tally.errors += 1;
    if (ms > worst.ms) Object.assign(worst, { ms, name: `${subject.name}, ${what}` });
    expect(isSame((await run(subject.bytes)).image, subject.good), `the good ${subject.name} after ${what}`)
      .to.be.true;
    return found;
  }

  /** An error, or the very picture that the whole file gives. */
  function expectNoOther(found: Decoded | RxrayError, { good, name }: Subject, what: string): void {
    if (!(found instanceof RxrayError)) expect(isSame(found.image, good), `${name}, ${what}`).to.be.true;
  }

  /** A picture of the size that `meta` says, and within the limits. */
  function expectWhole(found: Decoded | RxrayError): void {
    if (found instanceof RxrayError) return;
    const { width, height, channels, data } = found.image;
    expect(data.length).to.equal(width * height * channels);
    expect(width * height).to.be.at.most(LIMITS.maxPixels);
    expect(found.meta).to.include({ width, height });
    expect(() => JSON.stringify(found.meta)).not.to.throw();
  }

  it('that are truncated give an error, or the complete picture if only padding is missing', async () => {
    const cuts = Math.ceil(CASES / subjects.length);
    for (const subject of subjects) {
      for (let i = 0; i < cuts; i++) {
        const at = Math.floor((subject.bytes.length * (i + 0.5)) / cuts);
        const found = await attempt(subject, subject.bytes.subarray(0, at), `cut at ${at}`);
        expectNoOther(found, subject, `cut at ${at}`);
      }
    }
  });

  it('whose compressed stream is truncated, with matching lengths, give an error or the complete picture', async () => {
    const compressed = subjects.filter(({ fragment }) => fragment !== undefined);
    const cuts = Math.ceil(CASES / compressed.length);
    for (const subject of compressed) {
      const { bytes, fragment = { start: 0, end: 0 } } = subject;
      for (let i = 0; i < cuts; i++) {
        const length = Math.floor(((fragment.end - fragment.start) * (i + 0.5)) / cuts);
        const stream = bytes.subarray(fragment.start, fragment.start + length);
        const what = `stream of ${length} of ${fragment.end - fragment.start} bytes`;
        expectNoOther(await attempt(subject, withStream(subject, stream), what), subject, what);
      }
    }
  });

  it('with a fuzzed header give an error or a picture of the size in the header', async () => {
    const random = new Random(SEED);
    for (let i = 0; i < CASES; i++) {
      const subject = random.pick(subjects);
      const bytes = damage(subject.bytes, 132, subject.pixels, random);
      expectWhole(await attempt(subject, bytes, `header fuzzed, case ${i} of seed ${SEED}`));
    }
  });

  it('with fuzzed pixels give an error or a picture of the size in the header', async () => {
    const random = new Random(SEED + 1);
    for (let i = 0; i < CASES; i++) {
      const subject = random.pick(subjects);
      const bytes = damage(subject.bytes, subject.pixels, subject.bytes.length, random);
      expectWhole(await attempt(subject, bytes, `pixels fuzzed, case ${i} of seed ${SEED}`));
    }
  });

  it('with garbage as a stream, or a stream of another syntax, give an error or a picture of the right size', async () => {
    const random = new Random(SEED + 2);
    const compressed = subjects.filter(({ fragment }) => fragment !== undefined);
    for (let i = 0; i < CASES; i++) {
      const [subject, other] = [random.pick(compressed), random.pick(compressed)];
      const { start, end } = other.fragment ?? { start: 0, end: 0 };
      const stream = random.chance(0.5)
        ? Buffer.from(other.bytes.subarray(start, end))
        : Buffer.from(Array.from({ length: random.below(4000) }, () => random.below(256)));
      const found = await attempt(subject, withStream(subject, stream), `foreign stream, case ${i}`);
      expectWhole(found);
    }
  });

  it('whose codec never ends are given up, and the next file is decoded', async () => {
    const subject = subjects.find(({ name }) => name === 'jpeg-ls-12');
    const { start, end } = subject?.fragment ?? { start: 0, end: 0 };
    const stream = subject?.bytes.subarray(start, end) ?? Buffer.alloc(0);
    const format = { width: 61, height: 47, channels: 1, allocated: 16, stored: 12, signed: false } as const;
    // CharLS looks for a bit that is set.
    const endless = Buffer.concat([stream.subarray(0, Math.floor(stream.length / 2)), Buffer.of(0)]);
    const [given, next] = await Promise.allSettled([
      uncode('DecodeJpegLs', endless, format, 100),
      uncode('DecodeJpegLs', stream, format),
    ]);
    expect(given.status === 'rejected' && String(given.reason)).to.match(
      /codec did not finish within 103 ms/,
    );
    expect(next.status).to.equal('fulfilled');
  });

  it('with a damaged JPEG-LS or HTJ2K stream are refused with the reason of the codec', async () => {
    const cases: [name: string, place: [marker: number, from: number, to: number], reason: RegExp][] = [
      // Its first scan, and its quantization.
      ['jpeg-ls-12', [0xda, 100, 300], /encoded bit stream contains a general structural problem$/],
      ['htj2k-12', [0x5c, 4, 5], /QCD marker$/],
    ];
    for (const [name, [marker, from, to], reason] of cases) {
      const subject = subjects.find((each) => each.name === name);
      if (subject?.fragment === undefined) throw new Error(name);
      const { start, end } = subject.fragment;
      const stream = Buffer.from(subject.bytes.subarray(start, end));
      const at = stream.indexOf(Buffer.of(0xff, marker));
      stream.fill(0x1f, at + from, at + to);
      const found = await attempt(subject, withStream(subject, stream), 'damaged after a marker');
      expect(found, name).to.include({ code: 'FRAME_DAMAGED' });
      expect((found as RxrayError).message).to.match(reason);
    }
  });

  it('that would need more memory than allowed are refused before it is allocated', async () => {
    const huge = (rows: number, columns: number): Buffer =>
      dicomFile(1, {
        others: [
          [0x00280010, 'US', rows],
          [0x00280011, 'US', columns],
        ],
      });
    expect(await outcome(huge(65535, 65535))).to.include({ code: 'FRAME_TOO_LARGE' });
    expect(await outcome(huge(2000, 2000))).to.include({ code: 'FRAME_DAMAGED' });
    const bomb = Buffer.concat([
      metaHeader({ sopClass: CR, instance: testUid('film', 1), syntax: DEFLATED }),
      deflateRawSync(Buffer.alloc(64_000_000)),
    ]);
    expect(await outcome(bomb)).to.include({ code: 'FRAME_TOO_LARGE' });
    // A stream that says of itself that it is far larger than the header does.
    for (const name of ['jpeg-2000-16', 'htj2k-8', 'jpeg-ls-8', 'jpeg-baseline-8', 'jpeg-lossless-sv1-16']) {
      const subject = subjects.find((each) => each.name === name);
      if (subject?.fragment === undefined) throw new Error(name);
      const { start, end } = subject.fragment;
      const stream = Buffer.from(subject.bytes.subarray(start, end));
      const siz = stream.indexOf(Buffer.of(0xff, 0x51));
      const sof = [0xc0, 0xc1, 0xc3, 0xf7]
        .map((marker) => stream.indexOf(Buffer.of(0xff, marker)))
        .find((at) => at > 0);
      if (siz > 0) stream.writeUInt32BE(60_000, siz + 6);
      else stream.writeUInt16BE(60_000, (sof ?? 0) + 5);
      expect(await outcome(withStream(subject, stream)), name).to.include({ code: 'FRAME_DAMAGED' });
    }
  });

  it('with endless headers are read in bounded time and memory', async () => {
    const head = metaHeader({ sopClass: CR, instance: testUid('film', 1), syntax: '1.2.840.10008.1.2' });
    /** Empty elements, empty items, backslashes, escapes, nested sequences: 4 MB of each. */
    const element = (tag: number, length: number): Buffer => {
      const header = Buffer.alloc(8);
      header.writeUInt16LE(tag >>> 16, 0);
      header.writeUInt16LE(tag & 0xffff, 2);
      header.writeUInt32LE(length, 4);
      return header;
    };
    const size = 3_900_000;
    const empty = Buffer.alloc(size - (size % 8));
    for (let at = 0; at < empty.length; at += 8) {
      empty.writeUInt16LE(9, at);
      empty.writeUInt16LE((at / 8) & 0xffff, at + 2);
    }
    const items = Buffer.alloc(size - (size % 8), Buffer.from('feff00e000000000', 'hex'));
    const nested = Buffer.concat(
      Array.from({ length: 200_000 }, () =>
        Buffer.concat([element(0x00081140, 0xffffffff), element(0xfffee000, 0xffffffff)]),
      ),
    );
    const escapes = Buffer.alloc(size, Buffer.from('\x1b$B0!\x1b(B\\'));
    for (const rest of [
      empty,
      Buffer.concat([element(0x00289132, items.length), items]),
      nested,
      Buffer.concat([element(0x00080008, size), Buffer.alloc(size, '\\')]),
      Buffer.concat([
        element(0x00080005, 10),
        Buffer.from('ISO_IR 100'),
        element(0x00080070, escapes.length),
        escapes,
      ]),
      Buffer.concat([element(0x00281050, size), Buffer.alloc(size, '1\\')]),
    ]) {
      expect(await outcome(Buffer.concat([head, rest]))).to.be.instanceOf(RxrayError);
    }
  });

  it('with wrong numbers give a warning, or fail', async () => {
    const film = (others: Parameters<typeof bytesOf>[0]): Buffer => dicomFile(1, { others });
    const warningsOf = async (bytes: Buffer): Promise<string> =>
      JSON.stringify((await run(bytes)).meta['warnings'] ?? []);
    expect(await warningsOf(film([[0x00280008, 'IS', '3']]))).to.match(/by its header there should be/);
    expect(await warningsOf(film([[0x00280010, 'US', 32]]))).to.match(/by its header there should be/);
    expect(await warningsOf(film([[0x00280008, 'IS', 'many']]))).to.match(/NumberOfFrames is not a valid/);
    expect(await outcome(film([[0x00280010, 'US', 65]]))).to.include({ code: 'FRAME_DAMAGED' });
    expect(await outcome(film([[0x00280101, 'US', 17]]))).to.include({ code: 'FRAME_DAMAGED' });
    expect(await outcome(film([[0x00280100, 'US', 32]]))).to.include({ code: 'FRAME_UNSUPPORTED' });
    expect(await outcome(film([[0x00280002, 'US', 4]]))).to.include({ code: 'FRAME_UNSUPPORTED' });
  });
});
