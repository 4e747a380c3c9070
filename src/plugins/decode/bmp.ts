import { messageOf, RxrayError } from '../../core/errors.js';
import { checkSize, type Decoded, type Limits } from './decoder.js';

/** Bytes of the fixed header: BITMAPFILEHEADER and BITMAPINFOHEADER. */
const HEADER = 54;

/** BMP of 1 to 32 bit without run-length coding; the fourth byte of 32-bit files is ignored. */
export async function decodeBmp(bytes: Buffer, limits: Limits): Promise<Decoded> {
  if (bytes.length < HEADER) {
    throw new RxrayError('FRAME_DAMAGED', `the BMP file ends inside its header, after ${bytes.length} bytes`);
  }
  const offset = bytes.readUInt32LE(10);
  const width = bytes.readInt32LE(18);
  const height = Math.abs(bytes.readInt32LE(22));
  const bits = bytes.readUInt16LE(28);
  const compression = bytes.readUInt32LE(30);
  if (![1, 4, 8, 16, 24, 32].includes(bits) || width < 1 || height < 1) {
    throw new RxrayError('FRAME_NOT_AN_IMAGE', 'the file begins like a BMP file, but is none');
  }
  checkSize(width, height, limits);
  if (compression === 1 || compression === 2) {
    throw new RxrayError('FRAME_UNSUPPORTED', 'the BMP file is run-length coded, which is not supported');
  }
  const expected = offset + Math.ceil((width * bits) / 32) * 4 * height;
  if (bytes.length < expected) {
    throw new RxrayError(
      'FRAME_DAMAGED',
      `the BMP file is truncated: its pixels end at byte ${expected}, the file has ${bytes.length}`,
    );
  }

  const { decode } = await import('bmp-ts');
  let abgr: Buffer;
  try {
    abgr = decode(withoutGap(bytes, offset)).data;
  } catch (cause) {
    throw new RxrayError('FRAME_DAMAGED', `the BMP file is damaged: ${messageOf(cause)}`, { cause });
  }
  const colour = new Uint8Array(width * height * 3);
  let grey = true;
  for (let i = 0, o = 0; o < colour.length; i += 4, o += 3) {
    const [blue = 0, green = 0, red = 0] = [abgr[i + 1], abgr[i + 2], abgr[i + 3]];
    colour[o] = red;
    colour[o + 1] = green;
    colour[o + 2] = blue;
    grey &&= red === green && green === blue;
  }
  const meta = { format: 'bmp', width, height, bits };
  if (!grey) return { image: { width, height, channels: 3, data: colour }, meta };
  // BMP has no grey: it has palettes, and colours that happen to be equal.
  return { image: { width, height, channels: 1, data: colour.filter((_, i) => i % 3 === 0) }, meta };
}

/** bmp-ts takes the pixels to follow the palette at once; the header may say otherwise. */
function withoutGap(bytes: Buffer, offset: number): Buffer {
  const infoSize = bytes.readUInt32LE(14);
  const bits = bytes.readUInt16LE(28);
  const masks = infoSize === 40 && bytes.readUInt32LE(30) === 3 ? 12 : 0;
  const colours = bytes.readUInt32LE(46) || (bits <= 8 ? 2 ** bits : 0);
  const end = 14 + infoSize + masks + colours * 4;
  return end === offset ? bytes : Buffer.concat([bytes.subarray(0, end), bytes.subarray(offset)]);
}
