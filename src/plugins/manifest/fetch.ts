import { randomUUID } from 'node:crypto';
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

/** Time limits for a response, and for an idle connection. */
const TIMEOUT_MS = 60_000;

/** A response that is not worth a retry. */
class Final extends Error {}

/** Downloads films from `https:` and `s3:` addresses to a folder. */
export class FilmFetcher {
  readonly #retry;
  #s3: Promise<{ client: S3Client; get(bucket: string, key: string): Promise<Readable> }> | undefined;

  constructor(
    private readonly folder: string,
    private readonly options: Pick<ManifestOptions, 'headers' | 's3' | 'attempts'>,
    private readonly signal: AbortSignal,
  ) {
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

  /** Downloads the film; undefined for a local film. Throws FRAME_UNREADABLE or FRAME_TOO_LARGE. */
  async fetch({ path: address, size, error }: Candidate, maxBytes: number): Promise<Copy | undefined> {
    if (error !== undefined || !/^(https?|s3):/.test(address)) return undefined;
    if (size > maxBytes) throw tooLarge(maxBytes);
    const path = join(this.folder, randomUUID());
    try {
      await this.#retry.execute(async () => {
        await pipeline(await this.#open(address), bounded(maxBytes), createWriteStream(path), {
          signal: this.signal,
        });
      }, this.signal);
      const { size: bytes, mtimeMs } = await stat(path);
      return { path, size: bytes, mtimeMs };
    } catch (cause) {
      await rm(path, { force: true });
      if (cause instanceof RxrayError) throw cause;
      throw new RxrayError('FRAME_UNREADABLE', `the film could not be fetched: ${messageOf(cause)}`, {
        cause,
      });
    }
  }

  async close(): Promise<void> {
    (await this.#s3?.catch(() => undefined))?.client.destroy();
    await rm(this.folder, { recursive: true, force: true });
  }

  async #open(address: string): Promise<Readable> {
    const { protocol, hostname, pathname } = new URL(address);
    if (protocol !== 's3:') return get(address, this.options.headers, this.signal);
    this.#s3 ??= openS3(this.options.s3);
    const s3 = await this.#s3;
    // The raw key: a URL would interpret `#` and `?` in it.
    const key = address.slice(`s3://${hostname}/`.length);
    return s3.get(hostname, pathname === '' ? '' : key);
  }
}

async function get(address: string, headers: Record<string, string>, signal: AbortSignal): Promise<Readable> {
  const response = await proxiedFetch(new URL(address), {
    headers,
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
  });
  if (response.ok && response.body !== null) return Readable.fromWeb(response.body);
  await response.body?.cancel();
  const message = `the server answered ${String(response.status)}`;
  throw isPassing(response.status) ? new Error(message) : new Final(message);
}

async function openS3({ endpoint, region, pathStyle }: ManifestOptions['s3']): Promise<{
  client: S3Client;
  get(bucket: string, key: string): Promise<Readable>;
}> {
  const { S3Client, GetObjectCommand } = await import('@aws-sdk/client-s3').catch((cause: unknown) => {
    throw new RxrayError('CONFIG_CREATE', `films at s3: addresses need a package: ${S3_INSTALL}`, { cause });
  });
  const client = new S3Client({
    forcePathStyle: pathStyle,
    // No retries by the client: they are made here.
    maxAttempts: 1,
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
  });
  return {
    client,
    async get(bucket, key) {
      try {
        const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
        return Body as Readable;
      } catch (error) {
        const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
        throw status === undefined || isPassing(status)
          ? error
          : new Final(`the server answered ${messageOf(error)}`);
      }
    },
  };
}

function isPassing(status: number): boolean {
  return status >= 500 || status === 408 || status === 429;
}

/** Passes bytes on, and throws above the limit. */
function bounded(maxBytes: number): Transform {
  let left = maxBytes;
  return new Transform({
    transform(chunk: Buffer, _, done) {
      left -= chunk.length;
      if (left < 0) done(tooLarge(maxBytes));
      else done(null, chunk);
    },
  });
}

function tooLarge(maxBytes: number): RxrayError {
  return new RxrayError(
    'FRAME_TOO_LARGE',
    `the film has more bytes than limits.bytes allows in flight (${String(maxBytes)})`,
  );
}
