import { parentPort } from 'node:worker_threads';
import { type Codec, type Coded, uncodeHere, type Uncoded } from './native-codec.js';

export interface CodecRequest {
  readonly codec: Codec;
  readonly stream: Uint8Array;
  readonly format: Coded;
}
export type CodecReply =
  { readonly uncoded: Omit<Uncoded, 'data'> & { readonly data: Uint8Array } } | { readonly reason: string };

parentPort?.on('message', ({ codec, stream, format }: CodecRequest) => {
  void uncodeHere(codec, Buffer.from(stream.buffer, stream.byteOffset, stream.byteLength), format).then(
    (uncoded) => {
      parentPort?.postMessage({ uncoded } satisfies CodecReply, [uncoded.data.buffer as ArrayBuffer]);
    },
    (error: unknown) => {
      parentPort?.postMessage({ reason: (error as Error).message } satisfies CodecReply);
    },
  );
});
