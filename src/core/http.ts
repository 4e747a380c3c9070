import { createHash, timingSafeEqual } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import { Unavailable } from './errors.js';
import type { LintMessage, Log } from './plugin.js';
import { proxiedFetch, proxyFor } from './proxied-fetch.js';
import { isThisMachine } from './this-machine.js';

/** Longest wait that a `Retry-After` may ask for. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/** Answers are read up to here, so that the connection can be used again. */
const MAX_ANSWER_BYTES = 64 * 1024;

/** Compares with a secret in constant time, whatever the lengths. */
export function isSecret(given: string, secret: string): boolean {
  const digestOf = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digestOf(given), digestOf(secret));
}

/**
 * The text of an answer, or its part that has arrived, up to a limit. Never rejects. Also for answers that are not needed:
 * an unread answer keeps its connection busy.
 */
export async function readAnswer(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  try {
    await readBody(response, chunks, MAX_ANSWER_BYTES);
  } catch {
    // The status has arrived: it does not matter if the rest breaks off or takes too long.
  }
  return Buffer.concat(chunks).toString();
}

/** Reads the body into `chunks`, up to the first one that exceeds `most` bytes; whether that was all of it. */
async function readBody(response: Response, chunks: Uint8Array[], most: number): Promise<boolean> {
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk as Uint8Array);
    bytes += (chunk as Uint8Array).byteLength;
    if (bytes > most) return false;
  }
  return true;
}

/** Source: RFC 9110, 10.2.3: seconds, or a date. */
function retryAfterOf(response: Response): number {
  const text = response.headers.get('retry-after');
  if (text === null) return 0;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

/** `fetch` hides why it failed in its causes. */
function networkReason(error: unknown): string {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const status = /^Proxy .*\((\d{3})\)/.exec(cause.message)?.[1];
    if (status !== undefined) return `the proxy answered ${status}`;
    if ('code' in cause && typeof cause.code === 'string') return `it could not be reached (${cause.code})`;
  }
  return 'it could not be reached';
}

/** Logs how requests reach a receiver. Throws CONFIG_CREATE if the environment names something else than a proxy. */
export function logRoute(url: URL, log: Log): void {
  const { host, hostname, protocol } = url;
  const proxy = proxyFor(url);
  if (proxy !== undefined)
    log.info({ host, proxy: proxy.host }, 'requests go through the proxy of the environment');
  if (protocol === 'http:' && !isThisMachine(hostname))
    log.warn({ host }, 'what is sent to this host, or comes from it, is not encrypted: use https');
}

/** What is wrong with the address of a receiver. */
export function* addressFaults(url: string): Generator<LintMessage> {
  const { username, password } = new URL(url);
  if (username === '' && password === '') return;
  const message = 'expected no user and password in it. Put them into an `Authorization` header';
  yield { severity: 'error', option: ['url'], message };
}

/** What is wrong with headers. The library's own message is not passed on: it repeats the value, which may be secret. */
export function* headerFaults(headers: Readonly<Record<string, string>>): Generator<LintMessage> {
  for (const [name, value] of Object.entries(headers)) {
    try {
      new Headers({ [name]: value });
    } catch {
      const message = `"${name}" is not a header, or its value has characters that headers cannot have`;
      yield { severity: 'error', option: ['headers', name], message };
    }
  }
}

interface Attempt {
  readonly headers: Headers;
  /** Of the whole exchange, the body of the answer included. */
  readonly timeoutMs: number;
  /** Ends the attempt when the graph is torn down. */
  readonly teardown: AbortSignal;
}
interface Post extends Attempt {
  readonly body: string | Uint8Array<ArrayBuffer>;
}

/** One attempt, without following redirects. Throws {@link Unavailable} if there is no answer in time. */
export function post(url: URL, { headers, body, ...attempt }: Post): Promise<Response> {
  return bounded(attempt, (signal) =>
    proxiedFetch(url, { method: 'POST', headers, body, signal, redirect: 'manual' }),
  );
}

/**
 * The answer to a GET with its whole body, of at most `most` bytes; nothing of a longer one. Throws {@link Unavailable}
 * if there is no answer in time, or the answer breaks off.
 */
export function get(
  url: URL,
  { headers, ...attempt }: Attempt,
  most: number,
): Promise<{ readonly response: Response; readonly body: Buffer | undefined }> {
  return bounded(attempt, async (signal) => {
    const response = await proxiedFetch(url, { headers, signal, redirect: 'manual' });
    const chunks: Uint8Array[] = [];
    const isAll = await readBody(response, chunks, most);
    return { response, body: isAll ? Buffer.concat(chunks) : undefined };
  });
}

async function bounded<T>(
  { timeoutMs, teardown }: Omit<Attempt, 'headers'>,
  exchange: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const timeout = AbortSignal.timeout(timeoutMs);
  // `any` refers to it only weakly, and once collected it never aborts (nodejs/node#57736); a listener keeps it.
  timeout.addEventListener('abort', () => undefined, { once: true });
  const signal = AbortSignal.any([teardown, timeout]);
  try {
    return await exchange(signal);
  } catch (error) {
    if (teardown.aborted) throw error;
    throw new Unavailable(
      timeout.aborted ? `it did not answer within ${timeoutMs} ms` : networkReason(error),
    );
  }
}

/**
 * An unsuccessful answer, in words: `it answered 404 Not Found`. Throws {@link Unavailable} if it may be another
 * one later. The receiver's own reason phrase may repeat what it was sent, secrets included: it is not shown.
 */
export function refusalOf(response: Response): string {
  const { status } = response;
  const answer = `it answered ${status} ${STATUS_CODES[status] ?? ''}`.trimEnd();
  if (status === 408 || status === 429 || status >= 500)
    throw new Unavailable(answer, retryAfterOf(response));
  return answer;
}
