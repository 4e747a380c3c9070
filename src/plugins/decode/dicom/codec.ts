import { once } from 'node:events';
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { messageOf } from '../../../core/errors.js';
import { damaged } from '../../../dicom/failures.js';
import type { Codec, CodecReply, CodecRequest } from './codec-thread.js';
import type { Coded, Uncoded } from './native-codec.js';

/** Time limit, plus a second for each million pixels: some codecs never finish with damaged streams. */
const LIMIT_MS = 60_000;

let thread: Worker | undefined;
let turn: Promise<unknown> = Promise.resolve();

/**
 * Decodes one frame at a time, in a thread of its own that can be ended. Throws FRAME_DAMAGED with the codec's reason, or
 * if the codec does not finish in time.
 */
export function uncode(codec: Codec, stream: Buffer, format: Coded, limitMs = LIMIT_MS): Promise<Uncoded> {
  const mine = turn.then(() => ask({ codec, stream: new Uint8Array(stream), format }, limitMs));
  turn = mine.catch(() => undefined);
  return mine;
}

async function ask(request: CodecRequest, limitMs: number): Promise<Uncoded> {
  const worker = (thread ??= new Worker(
    new URL(`./codec-thread${extname(import.meta.url)}`, import.meta.url),
  ));
  const { width, height } = request.format;
  const most = Math.round(limitMs + (width * height) / 1000);
  let reply: CodecReply;
  worker.ref();
  try {
    worker.postMessage(request, [request.stream.buffer as ArrayBuffer]);
    [reply] = (await once(worker, 'message', { signal: AbortSignal.timeout(most) })) as [CodecReply];
  } catch (cause) {
    thread = undefined;
    void worker.terminate();
    const isLate = cause instanceof Error && cause.name === 'AbortError';
    // Only a codec that is still running is the film's fault.
    if (!isLate) throw new Error(`the thread for codecs failed: ${messageOf(cause)}`, { cause });
    throw damaged(`its codec did not finish within ${most} ms`, cause);
  } finally {
    worker.unref();
  }
  if ('reason' in reply) throw damaged(reply.reason);
  const { data, ...rest } = reply.uncoded;
  return { ...rest, data: Buffer.from(data.buffer, data.byteOffset, data.byteLength) };
}
