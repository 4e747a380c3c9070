/* eslint-disable no-control-regex -- the bytes are binary */

const ARCHIVE = ': unpack it first';

/** Formats that are not decoded, by the bytes with which their files begin, and where these are if not at the start. */
const OTHERS: readonly (readonly [name: string, magic: RegExp, at?: number])[] = [
  ['a PNG file that was damaged by a transfer as text', /^\x89PNG/],
  ['JPEG 2000', /^(?:\0\0\0\x0cjP {2}|\xff\x4f\xff\x51)/],
  ['JPEG XL', /^(?:\0\0\0\x0cJXL |\xff\x0a)/],
  ['JPEG XR', /^II\xbc\x01/],
  ['HEIC', /^ftyp(?:hei|hev|mif|msf)/, 4],
  ['AVIF', /^ftypavi/, 4],
  ['a video', /^ftyp/, 4],
  ['NIfTI', /^(?:n\+1|ni1)\0/, 344],
  ['an array of NumPy', /^\x93NUMPY/],
  ['NRRD', /^NRRD000/],
  ['MetaImage', /^(?:ObjectType|NDims) *=/],
  ['PNM', /^P[1-7Ff]\s/],
  ['Photoshop', /^8BPS/],
  ['OpenEXR', /^\x76\x2f\x31\x01/],
  ['Radiance HDR', /^#\?R/],
  ['FITS', /^SIMPLE {2}=/],
  ['HDF5', /^\x89HDF/],
  ['QOI', /^qoif/],
  ['PDF', /^%PDF/],
  ['a web page', /^\s*<(?:!doctype\s+html|html)/i],
  ['XML', /^\s*<(?:\?xml|svg)/],
  ['a pointer of Git LFS, not the file itself', /^version https:\/\/git-lfs/],
  [`gzip${ARCHIVE}`, /^\x1f\x8b/],
  [`ZIP${ARCHIVE}`, /^PK(?:\x03\x04|\x05\x06)/],
  [`bzip2${ARCHIVE}`, /^BZh\d/],
  [`xz${ARCHIVE}`, /^\xfd7zXZ/],
  [`Zstandard${ARCHIVE}`, /^\x28\xb5\x2f\xfd/],
  [`7z${ARCHIVE}`, /^7z\xbc\xaf/],
  [`RAR${ARCHIVE}`, /^Rar!/],
];

/** What a file is that `decode` does not read, in words; undefined if it is not known. */
export function otherFormat(bytes: Buffer): string | undefined {
  return OTHERS.find(([, magic, at = 0]) => magic.test(bytes.toString('latin1', at, at + 64)))?.[0];
}
