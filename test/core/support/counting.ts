import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { StageSpec } from '../../../src/core/workers/protocol.js';
import { Segment } from '../../../src/core/workers/segment.js';

/** Counts its calls; waits, adds 1 to each pixel, fails, hangs or ends its thread at the films that it is told to. */
const COUNT = `
import { appendFileSync, existsSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { defineStage, z } from 'rxray';
async function endAfterAnswer(file) {
  // More turns than the answer takes, and no message is received between them.
  for (let turn = 0; turn < 1000; turn += 1) await null;
  while (!existsSync(file));
  process.exit(1);
}
export default defineStage({
  name: 'count', summary: 'Counts its calls.',
  options: z.strictObject({
    id: z.string(), refuses: z.string(), times: z.number(), endsAt: z.string(), hangsAt: z.string(), waitMs: z.number(),
    endsWhen: z.string(), log: z.string(), changes: z.boolean(),
  }),
  create({ id, refuses, times = Infinity, endsAt, hangsAt, endsWhen, waitMs = 5, log, changes }) {
    let calls = 0;
    let refused = 0;
    return {
      async process(frame) {
        calls += 1;
        if (log !== undefined && frame.origin.name !== 'early') appendFileSync(log, frame.origin.name + ' ');
        if (waitMs > 0) await setTimeout(waitMs);
        if (frame.origin.name === refuses && (refused += 1) <= times) throw new Error(id + ' does not like it');
        if (frame.origin.name === endsAt) process.exit(1);
        if (endsWhen !== undefined) void endAfterAnswer(endsWhen);
        if (frame.origin.name === hangsAt) for (;;) await new Promise(() => {});
        const image = changes ? { ...frame.image, data: frame.image.data.map((value) => value + 1) } : frame.image;
        return { ...frame, image, results: { ...frame.results, [id]: { kind: 'count', calls } } };
      },
    };
  },
});`;

/** What a stage of {@link counting} does, besides counting. */
export interface Counting extends Pick<StageSpec, 'timeoutMs' | 'when' | 'shadow'> {
  /** The film on which it throws, and how often. */
  readonly refuses?: string;
  readonly times?: number;
  readonly endsAt?: string;
  readonly hangsAt?: string;
  /** The file that its thread waits for after its answer, busy, and then ends. */
  readonly endsWhen?: string;
  readonly waitMs?: number;
  /** The file that gets the names of the films. */
  readonly log?: string;
  readonly changes?: boolean;
}

/** Makes segments of counting stages, one for each letter of `ids`; `dir` gets the plugin. */
export async function counting(
  dir: string,
): Promise<(ids: string, own?: Readonly<Record<string, Counting>>) => Segment> {
  const file = join(dir, 'count.ts');
  await writeFile(file, COUNT);
  return (ids, own = {}) =>
    new Segment(
      [...ids].map((id) => {
        const { timeoutMs, when, shadow, ...settings } = own[id] ?? {};
        return {
          ...{
            key: `${randomUUID()}:${id}`,
            id,
            url: pathToFileURL(file).href,
            settings: { id, ...settings },
          },
          ...{ baseDir: dir, stateDir: dir, when, shadow, ...(timeoutMs !== undefined && { timeoutMs }) },
        };
      }),
    );
}
