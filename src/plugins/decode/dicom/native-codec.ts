import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { messageOf } from '../../../core/errors.js';
import { HEAP_IN_USE, MAX_MEMORY, wasm, type Memory } from './wasm.js';

/**
 * The only module that uses dcmjs-codecs, of which libjpeg (8, 12 and 16 bit, lossless), OpenJPEG and libjxl are
 * used, compiled into one WebAssembly module. It is called directly, because its JavaScript loads a second
 * DICOM library and compiles the module again after each failure.
 */
export type NativeCodec = 'DecodeJpeg' | 'DecodeJpeg2000' | 'DecodeJpegXl';

export interface Coded {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly allocated: number;
  readonly stored: number;
  readonly signed: boolean;
}

/** The output of a codec: samples of 8 or 16 bit, little endian. */
export interface Uncoded {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  /** Whether the channels are separate planes. */
  readonly planar: boolean;
  readonly data: Buffer;
}

type Exports = Record<string, (...args: number[]) => number> & { readonly memory: Memory };

/** Messages of libjpeg and OpenJPEG about streams that they repair: accepting them would give wrong pixels silently. */
const REPAIRED = /corrupt|premature|truncat|not enough|missing|unexpected|extraneous|error/i;

let compiled: Promise<object> | undefined;
let instance: Exports | undefined;
/** The used part of a new instance's memory, the same for all instances. */
let pristine: Uint8Array | undefined;
let messages: string[] = [];

/**
 * Decodes one frame, in this thread. Throws an error with the codec's reason; the next frame then gets a new instance, since
 * an error leaves the old one in an unknown state.
 */
export async function uncodeNatively(codec: NativeCodec, stream: Buffer, format: Coded): Promise<Uncoded> {
  instance ??= await instantiate();
  const { memory, ...api } = instance;
  const call = (name: string, ...args: number[]): number => api[name]?.(...args) ?? 0;
  messages = [];
  // A damaged stream may have written anywhere without an error: each frame starts with the memory of a new instance.
  if (pristine !== undefined) new Uint8Array(memory.buffer).set(pristine);
  try {
    const context = call('CreateCodecsContext');
    const parameters = call('CreateDecoderParameters');
    call('SetColumns', context, format.width);
    call('SetRows', context, format.height);
    call('SetBitsAllocated', context, format.allocated);
    call('SetBitsStored', context, format.stored);
    call('SetSamplesPerPixel', context, format.channels);
    call('SetPixelRepresentation', context, Number(format.signed));
    call('SetPlanarConfiguration', context, 0);
    // Indices in the codec's own list: MONOCHROME2 and RGB. Colours are converted here, not there.
    call('SetPhotometricInterpretation', context, format.channels === 1 ? 1 : 3);
    call('SetConvertColorspaceToRgb', parameters, 0);
    call('SetEncodedBufferSize', context, stream.length);
    new Uint8Array(memory.buffer).set(stream, call('GetEncodedBuffer', context));
    call(codec, context, parameters);
    const start = call('GetDecodedBuffer', context);
    const result = {
      width: call('GetColumns', context),
      height: call('GetRows', context),
      channels: call('GetSamplesPerPixel', context),
      planar: call('GetPlanarConfiguration', context) === 1,
      data: Buffer.from(memory.buffer.slice(start, start + call('GetDecodedBufferSize', context))),
    };
    if (memory.buffer.byteLength > MAX_MEMORY) instance = undefined;
    const complaint = messages.find((message) => REPAIRED.test(message));
    if (complaint !== undefined) throw new Error(complaint);
    return result;
  } catch (cause) {
    instance = undefined;
    throw new Error(reasonOf(cause), { cause });
  }
}

/** `JpegDecoder8::ErrorExit::Not a JPEG file` → `Not a JPEG file`. */
function reasonOf(thrown: unknown): string {
  if (thrown instanceof Error && thrown.name === 'RuntimeError')
    return `its codec failed (${thrown.message})`;
  return messageOf(thrown)
    .replace(/^(?:\w+::)+/, '')
    .trim();
}

async function instantiate(): Promise<Exports> {
  compiled ??= load();
  const module = await compiled;
  // Set when the module is instantiated; the functions below read it.
  const linked: { memory: Memory } = { memory: { buffer: new ArrayBuffer(0) } };
  const text = (start: number, length: number): string =>
    Buffer.from(linked.memory.buffer, start, length).toString('latin1').slice(0, 200);
  const note = (start: number, length: number): void => void messages.push(text(start, length));
  const env = {
    emscripten_notify_memory_growth: () => undefined,
    onCodecsInfo: note,
    onCodecsTrace: note,
    onCodecsException: (start: number, length: number) => {
      throw new Error(text(start, length));
    },
  };
  // The module reads no files; its output is dropped.
  const system = {
    environ_get: () => 0,
    environ_sizes_get: (count: number, size: number) => {
      const view = new DataView(linked.memory.buffer);
      view.setUint32(count, 0, true);
      view.setUint32(size, 0, true);
      return 0;
    },
    proc_exit: (code: number) => {
      throw new Error(`its codec ended with ${code}`);
    },
    clock_time_get: (_clock: number, _precision: bigint, time: number) => {
      new DataView(linked.memory.buffer).setBigUint64(time, 0n, true);
      return 0;
    },
    fd_write: (_file: number, parts: number, count: number, written: number) => {
      const view = new DataView(linked.memory.buffer);
      let size = 0;
      for (let i = 0; i < count; i++) size += view.getUint32(parts + 8 * i + 4, true);
      view.setUint32(written, size, true);
      return 0;
    },
    fd_seek: () => 0,
    fd_close: () => 0,
  };
  const { exports } = await wasm.instantiate(module, { env, wasi_snapshot_preview1: system });
  const made = exports as Exports;
  linked.memory = made.memory;
  if (pristine !== undefined) return made;
  // It takes 40 ms, and changes nothing but the memory, which each frame sets.
  made._initialize?.();
  // Static data, then the stack, whose upper end this is; above it, a few kilobytes of heap are in use after the start.
  const used = (made.emscripten_stack_get_current?.() ?? 0) + HEAP_IN_USE;
  pristine = new Uint8Array(made.memory.buffer.slice(0, used));
  return made;
}

async function load(): Promise<object> {
  const path = createRequire(import.meta.url).resolve('dcmjs-codecs/build/dcmjs-native-codecs.wasm');
  return wasm.compile(await readFile(path));
}
