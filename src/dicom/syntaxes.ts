/** How the frames of a transfer syntax are coded. */
export type Coding =
  'native' | 'rle' | 'jpeg' | 'jpeg-ls' | 'jpeg-2000' | 'htj2k' | 'jpeg-xl' | 'deflated-frames';

export interface TransferSyntax {
  readonly name: string;
  /** Missing where it cannot be decoded. */
  readonly coding?: Coding;
}

export const IMPLICIT = '1.2.840.10008.1.2';
export const EXPLICIT = '1.2.840.10008.1.2.1';
export const DEFLATED = '1.2.840.10008.1.2.1.99';
export const BIG_ENDIAN = '1.2.840.10008.1.2.2';
/** Implicit little endian, with pixels in big endian. */
export const GE_PRIVATE = '1.2.840.113619.5.2';

const root = '1.2.840.10008.1.2';
const names = (coding: Coding | undefined, entries: Readonly<Record<string, string>>) =>
  Object.entries(entries).map(([uid, name]): [string, TransferSyntax] => [
    uid,
    { name, ...(coding && { coding }) },
  ]);

/** The transfer syntaxes of PS3.6, table A-1. */
export const SYNTAXES: ReadonlyMap<string, TransferSyntax> = new Map([
  ...names('native', {
    [IMPLICIT]: 'Implicit VR Little Endian',
    [EXPLICIT]: 'Explicit VR Little Endian',
    [`${root}.1.98`]: 'Encapsulated Uncompressed Explicit VR Little Endian',
    [DEFLATED]: 'Deflated Explicit VR Little Endian',
    [BIG_ENDIAN]: 'Explicit VR Big Endian',
    [GE_PRIVATE]: 'GE Private Implicit VR, Big Endian Pixels',
  }),
  ...names('rle', { [`${root}.5`]: 'RLE Lossless' }),
  ...names('jpeg', {
    [`${root}.4.50`]: 'JPEG Baseline',
    [`${root}.4.51`]: 'JPEG Extended',
    [`${root}.4.53`]: 'JPEG Spectral Selection',
    [`${root}.4.55`]: 'JPEG Full Progression',
    [`${root}.4.57`]: 'JPEG Lossless',
    [`${root}.4.70`]: 'JPEG Lossless, First-Order Prediction',
  }),
  ...names('jpeg-ls', {
    [`${root}.4.80`]: 'JPEG-LS Lossless',
    [`${root}.4.81`]: 'JPEG-LS Near-Lossless',
  }),
  ...names('jpeg-2000', {
    [`${root}.4.90`]: 'JPEG 2000 Lossless',
    [`${root}.4.91`]: 'JPEG 2000',
    [`${root}.4.92`]: 'JPEG 2000 Multi-component Lossless',
    [`${root}.4.93`]: 'JPEG 2000 Multi-component',
  }),
  ...names('htj2k', {
    [`${root}.4.201`]: 'High-Throughput JPEG 2000 Lossless',
    [`${root}.4.202`]: 'High-Throughput JPEG 2000 RPCL Lossless',
    [`${root}.4.203`]: 'High-Throughput JPEG 2000',
  }),
  ...names('jpeg-xl', {
    [`${root}.4.110`]: 'JPEG XL Lossless',
    [`${root}.4.111`]: 'JPEG XL JPEG Recompression',
    [`${root}.4.112`]: 'JPEG XL',
  }),
  ...names('deflated-frames', { [`${root}.8.1`]: 'Deflated Image Frame Compression' }),
  ...names(undefined, {
    [`${root}.4.52`]: 'JPEG Extended, Arithmetic',
    [`${root}.4.54`]: 'JPEG Spectral Selection, Arithmetic',
    [`${root}.4.56`]: 'JPEG Full Progression, Arithmetic',
    [`${root}.4.58`]: 'JPEG Lossless, Arithmetic',
    ...Object.fromEntries(
      [59, 60, 61, 62, 63, 64, 65, 66].map((n) => [`${root}.4.${n}`, 'JPEG Hierarchical']),
    ),
    [`${root}.4.94`]: 'JPIP Referenced',
    [`${root}.4.95`]: 'JPIP Referenced Deflate',
    [`${root}.4.204`]: 'JPIP HTJ2K Referenced',
    [`${root}.4.205`]: 'JPIP HTJ2K Referenced Deflate',
    ...Object.fromEntries(['100', '100.1', '101', '101.1'].map((n) => [`${root}.4.${n}`, 'MPEG-2 video'])),
    ...Object.fromEntries(
      ['102', '102.1', '103', '103.1', '104', '104.1', '105', '105.1', '106', '106.1'].map((n) => [
        `${root}.4.${n}`,
        'MPEG-4 video',
      ]),
    ),
    [`${root}.4.107`]: 'HEVC video',
    [`${root}.4.108`]: 'HEVC video, 10 bit',
    [`${root}.7.1`]: 'SMPTE ST 2110-20 video',
    [`${root}.7.2`]: 'SMPTE ST 2110-20 video',
    [`${root}.7.3`]: 'SMPTE ST 2110-30 audio',
    '1.2.840.113619.5.2.1': 'private syntax of GE',
  }),
]);

/** `1.2.840.10008.1.2.5 (RLE Lossless)`; of a UID that is none, nothing is repeated. */
export function describeSyntax(uid: string): string {
  const printable = /^[\d.]{1,64}$/.test(uid) ? uid : 'a value that is no UID';
  return `${printable} (${SYNTAXES.get(uid)?.name ?? 'unknown'})`;
}
