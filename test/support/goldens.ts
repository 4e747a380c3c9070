import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import sharp from 'sharp';
import type { Image, Samples } from '../../src/core/frame.js';

/** The path of a file in fixtures/. */
export function fixture(name: string): string {
  return fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));
}

/** Reads a PNG of 8 or 16 bit, grey or RGB, as it is. */
export async function readPng(path: string): Promise<Image> {
  const { space, width, height } = await sharp(path).metadata();
  const deep = space === 'grey16' || space === 'rgb16';
  const bytes = await sharp(path)
    .toColourspace(space)
    .raw({ depth: deep ? 'ushort' : 'uchar' })
    .toBuffer();
  const data = deep ? new Uint16Array(new Uint8Array(bytes).buffer) : new Uint8Array(bytes);
  return { width, height, channels: space.includes('rgb') ? 3 : 1, data };
}

/** Asserts that two images have the same size and type, and differ by at most `tolerance` levels, in at most `share` of all samples. */
export function expectSame(actual: Image, golden: Image, tolerance = 0, share = 1): void {
  expect([actual.width, actual.height, actual.channels], 'size').to.deep.equal([
    golden.width,
    golden.height,
    golden.channels,
  ]);
  expect(actual.data.constructor, 'sample type').to.equal(golden.data.constructor);
  const { worst, count } = difference(actual.data, golden.data);
  expect(worst, 'largest difference in grey levels').to.be.at.most(tolerance);
  expect(count / golden.data.length, 'share of samples that differ').to.be.at.most(share);
}

function difference(a: Samples, b: Samples): { worst: number; count: number } {
  let worst = 0;
  let count = 0;
  a.forEach((sample, i) => {
    const distance = Math.abs(sample - (b[i] ?? NaN));
    if (distance > 0) count++;
    worst = Math.max(worst, distance);
  });
  return { worst, count };
}

/** A grey or coloured image of noise. */
export function noise(width: number, height: number, type: '8' | '16' | 'float', channels: 1 | 3 = 1): Image {
  const random = (_: unknown, i: number): number => (Math.imul(i + 1, 2654435761) >>> 8) / 2 ** 24;
  const length = { length: width * height * channels };
  const data =
    type === 'float'
      ? Float32Array.from(length, random)
      : type === '8'
        ? Uint8Array.from(length, (_, i) => random(_, i) * 256)
        : Uint16Array.from(length, (_, i) => random(_, i) * 65536);
  return { width, height, channels, data };
}
