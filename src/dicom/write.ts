/** An element to be written: sequences have a list of items, each a list of elements. */
export type ElementToWrite = readonly [
  tag: number,
  vr: string,
  value: string | number | readonly string[] | readonly number[] | Uint8Array | readonly Item[],
];
export type Item = readonly ElementToWrite[];

/** VRs with a length of four bytes (PS3.5, table 7.1-1). */
const LONG = new Set(['OB', 'OW', 'SQ', 'UN', 'UT', 'UC']);

/** The elements in explicit VR little endian, in the order of their tags. */
export function bytesOf(elements: Item): Buffer {
  return Buffer.concat([...elements].sort(([a], [b]) => a - b).flatMap(elementBytes));
}

function elementBytes([tag, vr, value]: ElementToWrite): Buffer[] {
  const bytes = valueBytes(vr, value);
  const header = Buffer.alloc(LONG.has(vr) ? 12 : 8);
  header.writeUInt16LE(tag >>> 16, 0);
  header.writeUInt16LE(tag & 0xffff, 2);
  header.write(vr, 4, 'latin1');
  if (LONG.has(vr)) header.writeUInt32LE(bytes.length, 8);
  else if (bytes.length > 0xffff) throw new Error(`a value of ${bytes.length} bytes is too long for ${vr}`);
  else header.writeUInt16LE(bytes.length, 6);
  return [header, bytes];
}

function valueBytes(vr: string, value: ElementToWrite[2]): Buffer {
  if (value instanceof Uint8Array) return even(Buffer.from(value), 0);
  if (vr === 'SQ') return Buffer.concat((value as readonly Item[]).flatMap(itemBytes));
  const values = typeof value === 'object' ? (value as readonly (string | number)[]) : [value];
  const size = { US: 2, SL: 4, UL: 4, FL: 4, FD: 8 }[vr];
  if (size === undefined) return even(Buffer.from(values.join('\\'), 'utf8'), vr === 'UI' ? 0 : 0x20);
  const bytes = Buffer.alloc(size * values.length);
  values.forEach((each, i) => {
    const number = Number(each);
    if (vr === 'US') bytes.writeUInt16LE(number, size * i);
    else if (vr === 'SL') bytes.writeInt32LE(number, size * i);
    else if (vr === 'UL') bytes.writeUInt32LE(number, size * i);
    else if (vr === 'FL') bytes.writeFloatLE(number, size * i);
    else bytes.writeDoubleLE(number, size * i);
  });
  return bytes;
}

function itemBytes(item: Item): Buffer[] {
  const content = bytesOf(item);
  const header = Buffer.from('feff00e000000000', 'hex');
  header.writeUInt32LE(content.length, 4);
  return [header, content];
}

/** Values have an even length. */
function even(bytes: Buffer, padding: number): Buffer {
  return bytes.length % 2 === 0 ? bytes : Buffer.concat([bytes, Buffer.of(padding)]);
}
