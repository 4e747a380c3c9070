/** What the modules that call codecs in WebAssembly have in common. */

export interface Memory {
  readonly buffer: ArrayBuffer;
}

/** Node has this API; only the browsers' types declare it. */
interface WebAssemblyApi {
  compile(bytes: Buffer): Promise<object>;
  instantiate(module: object, imports: object): Promise<{ readonly exports: unknown }>;
  readonly Instance: new (module: object, imports: object) => { readonly exports: Record<string, unknown> };
  readonly Memory: new (size: object) => Memory;
}
export const wasm = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

/** Bytes of the heap that may be in use in a new instance. */
export const HEAP_IN_USE = 64 * 1024;
/** Above this, an instance is dropped to free its memory, since WebAssembly's memory never shrinks. */
export const MAX_MEMORY = 640 * 1024 * 1024;
