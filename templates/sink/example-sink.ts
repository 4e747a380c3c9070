import { defineSink, z } from 'rxray';

export default defineSink({
  name: 'example-sink',
  summary: 'Puts the results of every film to a server, under its id.',
  options: z.strictObject({
    url: z.url().describe('Where to: the id of the film is appended.'),
    timeoutMs: z
      .number()
      .positive()
      .default(10_000)
      .describe('How long an answer may take, in milliseconds.'),
  }),
  examples: [{ title: 'A server on this machine', with: { url: 'http://127.0.0.1:8080/films/' } }],
  create({ url, timeoutMs }) {
    let disposed = false;
    return {
      // Resolving says that the films are safe. After a crash they may come again: PUT does no harm twice.
      async write(frames) {
        if (disposed) throw new Error('the sink is closed');
        for (const { id, origin, meta, results } of frames) {
          const response = await fetch(new URL(id, url), {
            method: 'PUT',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ id, file: origin.name, meta, results }, withoutPixels),
            signal: AbortSignal.timeout(timeoutMs),
          });
          await response.body?.cancel();
          if (!response.ok) throw new Error(`${url} answered ${response.status} ${response.statusText}`);
        }
      },
      dispose() {
        disposed = true;
      },
    };
  },
});

function withoutPixels(_: string, value: unknown): unknown {
  return ArrayBuffer.isView(value) ? undefined : value;
}
