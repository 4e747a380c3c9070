import { crc32, deflateSync } from 'node:zlib';
import sharp from 'sharp';

/** A grey film with some texture, 8 bit; `pages` of them in one file where the format has pages. */
export function film(width = 96, pageHeight = 80, pages = 1): ReturnType<typeof sharp> {
  const height = pageHeight * pages;
  const data = Uint8Array.from({ length: width * height }, (_, i) => {
    const [x, y] = [i % width, Math.floor(i / width)];
    return 128 + 60 * Math.sin(x / 9) + 40 * Math.cos(y / 7) + (((i * 7919) >>> 3) % 16);
  });
  return sharp(data, { raw: { width, height, channels: 1, pageHeight } }).toColourspace('b-w');
}

/** A PNG of any size with one bit a pixel, all black: large to decode, small to keep. */
export function blackPng(width: number, height: number): Buffer {
  return greyPng(width, height, 1, Buffer.alloc(height * (1 + Math.ceil(width / 8))));
}

/** A grey PNG of `rows`, each with its filter byte before it (PNG specification, 7.3). */
export function greyPng(width: number, height: number, bitDepth: 1 | 8, rows: Buffer): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header[8] = bitDepth;
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows, { level: 1 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}

/** A DICOM film: secondary capture, explicit VR little endian, 8 bit, MONOCHROME2 (PS3.5, PS3.10). */
export function dicom(width = 64, height = 64): Buffer {
  const us = (value: number): Buffer => Buffer.from([value & 255, value >> 8]);
  const uid = (value: string): Buffer => text(value, '\0');
  const meta = [
    element(0x0002, 0x0002, 'UI', uid('1.2.840.10008.5.1.4.1.1.7')),
    element(0x0002, 0x0003, 'UI', uid('1.2.3.4')),
    element(0x0002, 0x0010, 'UI', uid('1.2.840.10008.1.2.1')),
  ];
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.concat(meta).length);
  return Buffer.concat([
    Buffer.alloc(128),
    Buffer.from('DICM', 'latin1'),
    element(0x0002, 0x0000, 'UL', length),
    ...meta,
    element(0x0008, 0x0060, 'CS', text('DX', ' ')),
    element(0x0028, 0x0002, 'US', us(1)),
    element(0x0028, 0x0004, 'CS', text('MONOCHROME2', ' ')),
    element(0x0028, 0x0010, 'US', us(height)),
    element(0x0028, 0x0011, 'US', us(width)),
    element(0x0028, 0x0100, 'US', us(8)),
    element(0x0028, 0x0101, 'US', us(8)),
    element(0x0028, 0x0102, 'US', us(7)),
    element(0x0028, 0x0103, 'US', us(0)),
    element(
      0x7fe0,
      0x0010,
      'OB',
      Buffer.from(Array.from({ length: width * height }, (_, i) => (i * 3) & 255)),
    ),
  ]);
}

function element(group: number, number: number, vr: string, value: Buffer): Buffer {
  const long = vr === 'OB';
  const head = Buffer.alloc(long ? 12 : 8);
  head.writeUInt16LE(group, 0);
  head.writeUInt16LE(number, 2);
  head.write(vr, 4, 'latin1');
  if (long) head.writeUInt32LE(value.length, 8);
  else head.writeUInt16LE(value.length, 6);
  return Buffer.concat([head, value]);
}

function text(value: string, padding: string): Buffer {
  return Buffer.from(value.length % 2 === 0 ? value : value + padding, 'latin1');
}
