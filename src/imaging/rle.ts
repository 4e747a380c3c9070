import type { Mask } from './mask-distance.js';

/** A mask in COCO's compressed run-length encoding, as pycocotools reads it: size is [height, width]. */
export interface CocoRle {
  readonly size: readonly [height: number, width: number];
  readonly counts: string;
}

/**
 * A mask as COCO's compressed RLE: runs of 0 and 1 in turn, down the columns, each count from the third on
 * as the difference to the one two before, five bits a character.
 */
export function encodeRle({ width, height, data }: Mask): CocoRle {
  const counts: number[] = [];
  let run = 0;
  let inside = false;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      if ((data[y * width + x] ?? 0) > 0 !== inside) {
        counts.push(run);
        run = 0;
        inside = !inside;
      }
      run++;
    }
  }
  counts.push(run);
  let text = '';
  counts.forEach((count, i) => {
    let rest = i > 2 ? count - (counts[i - 2] ?? 0) : count;
    for (let more = true; more;) {
      let bits = rest & 0x1f;
      rest >>= 5;
      more = (bits & 0x10) !== 0 ? rest !== -1 : rest !== 0;
      if (more) bits |= 0x20;
      text += String.fromCharCode(bits + 48);
    }
  });
  return { size: [height, width], counts: text };
}

/** The mask of a compressed RLE, 0 or 255. Throws where the runs do not fill it exactly. */
export function decodeRle({ size: [height, width], counts }: CocoRle): Uint8Array {
  const runs: number[] = [];
  for (let at = 0; at < counts.length;) {
    let value = 0;
    let shift = 0;
    let bits: number;
    do {
      bits = counts.charCodeAt(at++) - 48;
      value |= (bits & 0x1f) << shift;
      shift += 5;
    } while ((bits & 0x20) !== 0);
    if ((bits & 0x10) !== 0) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + (runs[runs.length - 2] ?? 0) : value);
  }
  const data = new Uint8Array(width * height);
  let position = 0;
  runs.forEach((run, i) => {
    for (let k = 0; k < run; k++, position++) {
      if (i % 2 === 1) data[(position % height) * width + Math.floor(position / height)] = 255;
    }
  });
  if (position !== data.length) {
    throw new Error(`the runs cover ${position} pixels, expected ${height} × ${width}`);
  }
  return data;
}
