import { parentPort } from 'node:worker_threads';
import { type EmbindCodec, uncodeByEmbind } from './embind-codec.js';
import { type Coded, type NativeCodec, uncodeNatively, type Uncoded } from './native-codec.js';

export type Codec = NativeCodec | EmbindCodec;
export interface CodecRequest {
  readonly codec: Codec;
  readonly stream: Uint8Array;
  readonly format: Coded;
}
export type CodecReply =
  { readonly uncoded: Omit<Uncoded, 'data'> & { readonly data: Uint8Array } } | { readonly reason: string };

parentPort?.on('message', ({ codec, stream, format }: CodecRequest) => {
  const bytes = Buffer.from(stream.buffer, stream.byteOffset, stream.byteLength);
  const uncoding =
    codec === 'DecodeJpegLs' || codec === 'DecodeHtJpeg2000'
      ? uncodeByEmbind(codec, bytes)
      : uncodeNatively(codec, bytes, format);
  void uncoding.then(
    (uncoded) => {
      parentPort?.postMessage({ uncoded } satisfies CodecReply, [uncoded.data.buffer as ArrayBuffer]);
    },
    (error: unknown) => {
      parentPort?.postMessage({ reason: (error as Error).message } satisfies CodecReply);
    },
  );
});
