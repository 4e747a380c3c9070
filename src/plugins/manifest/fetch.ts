import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { createWriteStream } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ExponentialBackoff, handleWhen, retry } from 'cockatiel';
import type { S3Client } from '@aws-sdk/client-s3';
import { messageOf, RxrayError } from '../../core/errors.js';
import type { Candidate, Copy } from '../../core/plugin.js';
import { proxiedFetch } from '../../core/proxied-fetch.js';
import type { ManifestOptions } from '../manifest.js';

export const S3_INSTALL = 'npm install @aws-sdk/client-s3';

/** Time limit for a response, and for the next bytes of it. */
const TIMEOUT_MS = 60_000;

/** A response that is not worth a retry. `isMissing`: the server does not have the film. */
class Final extends Error {
  constructor(
    message: string,
    readonly isMissing: boolean,
  ) {
    super(message);
  }
}

/** The bytes of a film from an offset on, and what identifies this version of it for the rest. */
interface Download {
  readonly body: Readable;
  /** 0 where the server begins anew. */
  readonly offset: number;
  readonly version?: string | undefined;
}

/** Downloads films from `https:` and `s3:` addresses to a folder. */
export class FilmFetcher {
  readonly #retry;
  #s3: Promise<S3> | undefined;

  constructor(
    private readonly folder: string,
    private readonly options: Pick<ManifestOptions, 'headers' | 's3' | 'attempts'>,
    private readonly signal: AbortSignal,
    private readonly timeoutMs = TIMEOUT_MS,
  ) {
    // Each film that is being fetched has one.
    setMaxListeners(0, signal);
    this.#retry = retry(
      handleWhen((error) => !(error instanceof Final) && !(error instanceof RxrayError)),
      {
        maxAttempts: options.attempts - 1,
        backoff: new ExponentialBackoff({ initialDelay: 200, maxDelay: 10_000 }),
      },
    );
  }

  /** Throws CONFIG_CREATE if films at such an address cannot be downloaded on this machine. */
  async prepare(address: string): Promise<void> {
    if (address.startsWith('s3:')) await (this.#s3 ??= openS3(this.options.s3));
  }

  /**
   * Downloads the film; undefined for a local film. Throws FRAME_UNREADABLE for a film that the server does not have,
   * FRAME_TOO_LARGE, and other errors where the server, or the access to it, is at fault.
   */
  async fetch({ path: address, size, error }: Candidate, maxBytes: number): Promise<Copy | undefined> {
    if (error !== undefined || !/^(https?|s3):/.test(address)) return undefined;
    if (size > maxBytes) throw tooLarge(maxBytes);
    const path = join(this.folder, randomUUID());
    let version: string | undefined;
    try {
      await this.#retry.execute(async () => {
        // After an interruption, only the rest.
        const have = version === undefined ? 0 : await sizeOf(path);
        const { body, offset, ...found } = await this.#open(address, { have, version });
        ({ version } = found);
        const file = createWriteStream(path, { flags: offset === 0 ? 'w' : 'a' });
        const bounded = boundedTo(maxBytes - offset, maxBytes, this.timeoutMs);
        await pipeline(body, bounded, file, { signal: this.signal });
      }, this.signal);
      const { size: bytes, mtimeMs } = await stat(path);
      return { path, size: bytes, mtimeMs };
    } catch (cause) {
      await rm(path, { force: true });
      if (cause instanceof RxrayError) throw cause;
      const message = `the film could not be fetched: ${reasonOf(cause)}`;
      throw cause instanceof Final && cause.isMissing
        ? new RxrayError('FRAME_UNREADABLE', message, { cause })
        : new Error(message, { cause });
    }
  }

  async dispose(): Promise<void> {
    (await this.#s3?.catch(() => undefined))?.client.destroy();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #open(
    address: string,
    { have, version }: { have: number; version?: string | undefined },
  ): Promise<Download> {
    const { protocol, hostname, pathname } = new URL(address);
    if (protocol !== 's3:') {
      return { body: await get(address, this.options.headers, this.timeoutMs, this.signal), offset: 0 };
    }
    this.#s3 ??= openS3(this.options.s3);
    const s3 = await this.#s3;
    // The raw key: a URL would interpret `#` and `?` in it.
    const key = pathname === '' ? '' : address.slice(`s3://${hostname}/`.length);
    try {
      return await s3.get(hostname, key, { have, version, signal: this.signal });
    } catch (error) {
      // The next request reads the credentials again.
      if (error instanceof Final && !error.isMissing) this.#s3 = undefined;
      throw error;
    }
  }
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    () => 0,
  );
}

/** An error of several connection attempts has no message of its own. */
function reasonOf(thrown: unknown): string {
  const [first] = thrown instanceof AggregateError ? (thrown.errors as unknown[]) : [];
  return messageOf(first ?? thrown);
}

async function get(
  address: string,
  headers: Record<string, string>,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Readable> {
  // Its timer holds it: `any` alone would let an AbortSignal.timeout be collected (nodejs/node#57736).
  const late = new AbortController();
  const timer = setTimeout(() => {
    late.abort(new Error(`the server did not answer within ${timeoutMs} ms`));
  }, timeoutMs);
  const response = await proxiedFetch(new URL(address), {
    headers,
    signal: AbortSignal.any([signal, late.signal]),
  }).finally(() => {
    clearTimeout(timer);
  });
  if (response.ok && response.body !== null) return Readable.fromWeb(response.body);
  await response.body?.cancel();
  const { status } = response;
  const message = `the server answered ${String(status)}`;
  throw isPassing(status) ? new Error(message) : new Final(message, status === 404 || status === 410);
}

interface S3 {
  readonly client: S3Client;
  get(
    bucket: string,
    key: string,
    from: { readonly have: number; readonly version?: string | undefined; readonly signal: AbortSignal },
  ): Promise<Download>;
}

async function openS3({ endpoint, region, pathStyle }: ManifestOptions['s3']): Promise<S3> {
  const { S3Client, GetObjectCommand } = await import('@aws-sdk/client-s3').catch((cause: unknown) => {
    throw new RxrayError('CONFIG_CREATE', `films at s3: addresses need a package: ${S3_INSTALL}`, { cause });
  });
  const client = new S3Client({
    forcePathStyle: pathStyle,
    // No retries by the client: they are made here.
    maxAttempts: 1,
    requestHandler: { connectionTimeout: TIMEOUT_MS, requestTimeout: TIMEOUT_MS, socketTimeout: TIMEOUT_MS },
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
  });
  const get: S3['get'] = async (bucket, key, { have, version, signal }) => {
    const rest = have === 0 ? {} : { Range: `bytes=${String(have)}-`, IfMatch: version };
    try {
      const request = new GetObjectCommand({ Bucket: bucket, Key: key, ...rest });
      const { Body, ETag, ContentRange } = await client.send(request, { abortSignal: signal });
      return { body: Body as Readable, offset: ContentRange === undefined ? 0 : have, version: ETag };
    } catch (error) {
      // Another version of the film is there by now.
      if (have > 0 && [412, 416].includes(statusOf(error) ?? 0)) return get(bucket, key, { have: 0, signal });
      throw s3Error(error, bucket, key);
    }
  };
  return { client, get };
}

function statusOf(thrown: unknown): number | undefined {
  return (thrown as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}

/** What S3's answers mean. Source: Amazon S3 API Reference, Error responses. */
function s3Error(thrown: unknown, bucket: string, key: string): unknown {
  const { name = '' } = thrown as { name?: string };
  const status = statusOf(thrown);
  if (name === 'CredentialsProviderError') {
    return new Final(`there are no credentials for S3 on this machine: ${messageOf(thrown)}`, false);
  }
  if (status === undefined || isPassing(status)) return thrown;
  const answer = `S3 answered ${String(status)} ${name}`;
  switch (name) {
    case 'NoSuchKey':
      return new Final(`${answer}: the bucket ${bucket} has no object ${key}`, true);
    case 'NoSuchBucket':
      return new Final(`${answer}: there is no bucket ${bucket}`, false);
    case 'ExpiredToken':
      return new Final(`${answer}: the credentials have expired`, false);
    default:
      return new Final(`${answer}: ${messageOf(thrown)}`, status === 404);
  }
}

function isPassing(status: number): boolean {
  return status >= 500 || status === 408 || status === 429;
}

/** Passes so many bytes on. Fails for more, and when none have arrived for `idleMs` milliseconds. */
function boundedTo(bytes: number, maxBytes: number, idleMs: number): Transform {
  let left = bytes;
  const bounded = new Transform({
    transform(chunk: Buffer, _, done) {
      timer.refresh();
      left -= chunk.length;
      if (left < 0) done(tooLarge(maxBytes));
      else done(null, chunk);
    },
    destroy(error, done) {
      clearTimeout(timer);
      done(error);
    },
  });
  const timer = setTimeout(() => {
    bounded.destroy(new Error(`the server sent nothing more for ${idleMs} ms`));
  }, idleMs);
  return bounded;
}

function tooLarge(maxBytes: number): RxrayError {
  return new RxrayError(
    'FRAME_TOO_LARGE',
    `the film has more bytes than limits.bytes allows in flight (${String(maxBytes)})`,
  );
}
