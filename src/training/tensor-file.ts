import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import type { HostTensor } from '../engine/index.js';

const TYPES = {
  F32: Float32Array,
  I32: Int32Array,
  U8: Uint8Array,
  U16: Uint16Array,
  I64: BigInt64Array,
} as const;
const NAMES = new Map(Object.entries(TYPES).map(([name, type]) => [type.name, name as keyof typeof TYPES]));

type Header = Record<
  string,
  { dtype: keyof typeof TYPES; shape: number[]; data_offsets: [number, number] } | Record<string, string>
>;

/** A tensor as the engine takes it, or 16-bit samples. */
export interface StoredTensor {
  readonly data: HostTensor['data'] | Uint16Array;
  readonly dims: readonly number[];
}

export interface TensorFile {
  readonly tensors: Record<string, StoredTensor>;
  readonly metadata: Record<string, string>;
}

/**
 * Writes tensors by name in the safetensors format (github.com/huggingface/safetensors): eight bytes of
 * header length, a JSON header, the raw values. The file is written beside its place, flushed and
 * renamed there, so that a crash leaves the old file or the new one.
 */
export async function writeTensorFile(path: string, { tensors, metadata }: TensorFile): Promise<void> {
  const header: Header = { __metadata__: metadata };
  let offset = 0;
  for (const [name, { data, dims }] of Object.entries(tensors)) {
    const dtype = NAMES.get(data.constructor.name) ?? 'U8';
    header[name] = { dtype, shape: [...dims], data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  // The values must be aligned; the format allows trailing blanks in the header for that.
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));

  const part = `${path}.part-${randomBytes(4).toString('hex')}`;
  const file = await open(part, 'w');
  try {
    await file.writev([length, padded]);
    for (const { data } of Object.values(tensors)) {
      await file.writeFile(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
    await file.sync();
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  await rename(part, path);
}

/** Reads what {@link writeTensorFile} wrote. Throws when the file is cut short or is no such file. */
export async function readTensorFile(path: string): Promise<TensorFile> {
  const bytes = await readFile(path);
  const headerLength = bytes.length < 8 ? Infinity : Number(bytes.readBigUInt64LE(0));
  if (8 + headerLength > bytes.length) throw new Error(`${path} is cut short: its header is incomplete`);
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength)) as Header;
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors: Record<string, StoredTensor> = {};
  for (const [name, entry] of Object.entries(entries) as [
    string,
    Exclude<Header[string], Record<string, string>>,
  ][]) {
    const [from, to] = entry.data_offsets;
    const start = bytes.byteOffset + 8 + headerLength + from;
    if (8 + headerLength + to > bytes.length) throw new Error(`${path} is cut short: it ends inside ${name}`);
    // A copy: it is aligned, and it does not keep the whole file in memory.
    const values = bytes.buffer.slice(start, start + to - from);
    tensors[name] = { data: new TYPES[entry.dtype](values), dims: entry.shape };
  }
  return { tensors, metadata: metadata as Record<string, string> };
}
