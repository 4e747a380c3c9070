import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { Uncoded } from './native-codec.js';
import { HEAP_IN_USE, MAX_MEMORY, wasm, type Memory } from './wasm.js';

/**
 * The only module that uses cornerstone's builds of CharLS and OpenJPH: they take 0.5 and 0.7 of the time of those in
 * dcmjs-codecs (`native-codec.ts`), with the same pixels. Their glue code is Emscripten's, with classes by Embind.
 */
export type EmbindCodec = 'DecodeJpegLs' | 'DecodeHtJpeg2000';

interface Build {
  readonly glue: string;
  readonly wasm: string;
  readonly decoder: 'JpegLSDecoder' | 'HTJ2KDecoder';
}
const BUILDS: Readonly<Record<EmbindCodec, Build>> = {
  DecodeJpegLs: {
    glue: '@cornerstonejs/codec-charls/decodewasmjs',
    wasm: '@cornerstonejs/codec-charls/decodewasm',
    decoder: 'JpegLSDecoder',
  },
  DecodeHtJpeg2000: {
    glue: '@cornerstonejs/codec-openjph/wasmjs',
    wasm: '@cornerstonejs/codec-openjph/wasm',
    decoder: 'HTJ2KDecoder',
  },
};

interface Decoder {
  getEncodedBuffer(bytes: number): Uint8Array;
  decode(): void;
  getFrameInfo(): { readonly width: number; readonly height: number; readonly componentCount: number };
  /** Of JPEG-LS: 0 for planes, 1 for lines, 2 for pixels. The output of the last two is by pixels. */
  getInterleaveMode?(): number;
  getDecodedBuffer(): Uint8Array;
  delete(): void;
}
type Glued = Partial<Record<Build['decoder'], new () => Decoder>> & {
  getExceptionMessage?(thrown: number): string;
};
interface Options {
  print(text: string): void;
  printErr(text: string): void;
  instantiateWasm(imports: object, receive: (instance: object) => void): object;
}

const require = createRequire(import.meta.url);

interface Instance {
  readonly glued: Glued;
  readonly memory: Memory;
}
interface State {
  compiled?: Promise<object>;
  instance?: Instance | undefined;
  /** The used part of a new instance's memory, the same for all instances. */
  pristine?: Uint8Array;
}
const states: Record<EmbindCodec, State> = { DecodeJpegLs: {}, DecodeHtJpeg2000: {} };
let messages: string[] = [];

/**
 * Decodes one frame, in this thread. Throws an error with the codec's reason; the next frame then gets a new instance,
 * since an error leaves the old one in an unknown state.
 */
export async function uncodeByEmbind(codec: EmbindCodec, stream: Buffer): Promise<Uncoded> {
  const state = states[codec];
  const { glued, memory } = (state.instance ??= await instantiate(codec));
  messages = [];
  // A damaged stream may have written anywhere without an error: each frame starts with the memory of a new instance.
  if (state.pristine !== undefined) new Uint8Array(memory.buffer).set(state.pristine);
  try {
    const Decoder = glued[BUILDS[codec].decoder];
    if (Decoder === undefined) throw new Error(`${BUILDS[codec].glue} has no ${BUILDS[codec].decoder}`);
    const decoder = new Decoder();
    decoder.getEncodedBuffer(stream.length).set(stream);
    decoder.decode();
    // OpenJPH decodes damaged streams as far as it can, with warnings only.
    if (messages[0] !== undefined) throw new Error(messages[0]);
    const { width, height, componentCount } = decoder.getFrameInfo();
    // Not `Buffer.from`: the buffer is passed on to another thread, and small ones would share theirs.
    const copy = new Uint8Array(decoder.getDecodedBuffer());
    const data = Buffer.from(copy.buffer, copy.byteOffset, copy.byteLength);
    const planar = componentCount > 1 && decoder.getInterleaveMode?.() === 0;
    decoder.delete();
    if (memory.buffer.byteLength > MAX_MEMORY) state.instance = undefined;
    return { width, height, channels: componentCount, planar, data };
  } catch (cause) {
    state.instance = undefined;
    throw new Error(reasonOf(cause, glued), { cause });
  }
}

/** C++ exceptions are thrown as addresses. `ojph error 0x00050088 at file.cpp:19: wrong value` → `wrong value`. */
function reasonOf(thrown: unknown, { getExceptionMessage }: Glued): string {
  const said = messages[0] ?? (typeof thrown === 'number' ? getExceptionMessage?.(thrown) : undefined);
  if (said !== undefined) return said.replace(/^ojph \w+ 0x\w+ at \S+: /, '').slice(0, 200);
  return `its codec failed (${thrown instanceof Error ? thrown.message.slice(0, 200) : 'without a reason'})`;
}

async function instantiate(codec: EmbindCodec): Promise<Instance> {
  const state = states[codec];
  const { glue, wasm: path } = BUILDS[codec];
  const module = await (state.compiled ??= readFile(require.resolve(path)).then((bytes) =>
    wasm.compile(bytes),
  ));
  const make = require(glue) as (options: Options) => Promise<Glued>;
  const note = (text: string): void => void messages.push(text);
  let memory: Memory | undefined;
  const glued = await make({
    print: note,
    printErr: note,
    instantiateWasm: (imports, receive) => {
      const instance = new wasm.Instance(module, imports);
      // Its name is minified.
      memory = Object.values(instance.exports).find((each) => each instanceof wasm.Memory);
      receive(instance);
      return instance.exports;
    },
  });
  if (memory === undefined) throw new Error(`${glue} has no memory`);
  state.pristine ??= usedPart(memory);
  return { glued, memory };
}

/** A copy of the memory up to the last byte that is not 0, and of the first bytes of the heap above it. */
function usedPart({ buffer }: Memory): Uint8Array {
  const words = new BigUint64Array(buffer);
  const last = words.findLastIndex((word) => word !== 0n);
  return new Uint8Array(buffer.slice(0, 8 * (last + 1) + HEAP_IN_USE));
}
