import { damaged } from '../../../dicom/failures.js';

/** Properties of the pixels in the markers of a JPEG or JPEG-LS stream (ITU-T T.81, annex B). */
export interface JpegHeader {
  readonly kind: 'lossy' | 'lossless' | 'jpeg-ls' | 'arithmetic' | 'hierarchical';
  readonly precision: number;
  readonly width: number;
  readonly height: number;
  readonly components: number;
  /** Colour transform by its markers: Adobe's before JFIF's, then component ids; undefined if unknown. */
  readonly coloursAre: 'RGB' | 'YCbCr' | undefined;
}

/** Throws FRAME_DAMAGED if there is no frame header. */
export function jpegHeader(stream: Buffer): JpegHeader {
  let adobe: number | undefined;
  let jfif = false;
  for (const { marker, start, end } of segments(stream)) {
    if (marker === 0xe0 && stream.toString('latin1', start, start + 4) === 'JFIF') jfif = true;
    if (marker === 0xee && stream.toString('latin1', start, start + 5) === 'Adobe' && end - start >= 12) {
      adobe = stream[start + 11];
    }
    const kind = kindOf(marker);
    if (kind === undefined || end - start < 6) continue;
    const components = stream[start + 5] ?? 0;
    const ids = Array.from({ length: components }, (_, i) => stream[start + 6 + 3 * i] ?? 0);
    const rgb = String.fromCharCode(...ids) === 'RGB';
    return {
      kind,
      precision: stream[start] ?? 0,
      height: stream.readUInt16BE(start + 1),
      width: stream.readUInt16BE(start + 3),
      components,
      coloursAre:
        adobe !== undefined ? (adobe === 1 ? 'YCbCr' : 'RGB') : jfif ? 'YCbCr' : rgb ? 'RGB' : undefined,
    };
  }
  throw damaged('its JPEG stream has no frame header');
}

/**
 * The stream without application markers, except one of Adobe that says whether colours are YCbCr, unless it is grey. What
 * decoders read from them does not apply in DICOM (PS3.5, 8.2.1): orientation, colour profiles, JFIF's colour space.
 */
export function plainJpeg(stream: Buffer, coloursAre: 'RGB' | 'YCbCr' | 'grey'): Buffer {
  const transform = coloursAre === 'YCbCr' ? 1 : 0;
  const adobe = Buffer.from([0xff, 0xee, 0, 14, ...Buffer.from('Adobe'), 0, 100, 0, 0, 0, 0, transform]);
  // Plain grey streams without markers are decoded by a kernel of our own.
  const parts = [stream.subarray(0, 2), ...(coloursAre === 'grey' ? [] : [adobe])];
  let kept = 2;
  for (const { marker, start, end } of segments(stream)) {
    if (marker < 0xe0 || marker > 0xef) continue;
    parts.push(stream.subarray(kept, start - 4));
    kept = end;
  }
  return Buffer.concat([...parts, stream.subarray(kept)]);
}

/** The marker segments up to the first scan; `start` and `end` enclose their content. */
function* segments(stream: Buffer): Generator<{ marker: number; start: number; end: number }> {
  let position = 2;
  while (position + 4 <= stream.length) {
    if (stream[position] !== 0xff) throw damaged('its JPEG stream has no marker where one is expected');
    const marker = stream[position + 1] ?? 0;
    if (marker === 0xff) {
      position++;
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return;
    const length = stream.readUInt16BE(position + 2);
    if (length < 2 || position + 2 + length > stream.length)
      throw damaged('its JPEG stream ends in its header');
    yield { marker, start: position + 4, end: position + 2 + length };
    position += 2 + length;
  }
}

function kindOf(marker: number): JpegHeader['kind'] | undefined {
  if (marker === 0xf7) return 'jpeg-ls';
  if (marker === 0xc3) return 'lossless';
  if (marker >= 0xc0 && marker <= 0xc2) return 'lossy';
  if (marker >= 0xc5 && marker <= 0xc7) return 'hierarchical';
  if (marker >= 0xc9 && marker <= 0xcf && marker !== 0xcc) return 'arithmetic';
  return undefined;
}
