/** Longest wait that a `Retry-After` may ask for. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/** Answers are read up to here, so that the connection can be used again. */
const MAX_ANSWER_BYTES = 64 * 1024;

/** Reads an answer to its end, or gives it up: an answer that nobody reads keeps its connection busy. */
export async function discard(response: Response): Promise<void> {
  await readAnswer(response);
}

/** The text of an answer, or what has come of it: no more than is read of any answer. Never rejects. */
export async function readAnswer(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response.body ?? []) {
      chunks.push(chunk as Uint8Array);
      bytes += (chunk as Uint8Array).byteLength;
      if (bytes > MAX_ANSWER_BYTES) break;
    }
  } catch {
    // The status has come; that the rest breaks off, or takes longer than one attempt may, changes nothing.
  }
  return Buffer.concat(chunks).toString();
}

/** Source: RFC 9110, 10.2.3: seconds, or a date. */
export function retryAfterOf(response: Response): number {
  const text = response.headers.get('retry-after');
  if (text === null) return 0;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

/** `fetch` hides why it failed in the cause. */
export function networkReason(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  const code = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : '';
  return `it could not be reached${code}`;
}
