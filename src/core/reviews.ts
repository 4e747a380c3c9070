import { appendFile, mkdir, open, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { durably } from './durable.js';
import { messageOf, RxrayError } from './errors.js';
import { isCode } from './files.js';

/** A person's decision about a film: the models were right or wrong, the film is unusable, or it was only reviewed. */
export const REVIEW_ANSWERS = ['right', 'wrong', 'unusable', 'reviewed'] as const;

export const reviewSchema = z.object({
  /** The film's id, and where it is. */
  id: z.string().min(1),
  file: z.string(),
  path: z.string(),
  sha256: z.string(),
  answer: z.enum(REVIEW_ANSWERS),
  /** The film's class: the person's where the models were wrong, the model's where it was right. */
  class: z.string().min(1).nullable(),
  by: z.string(),
  /** ISO 8601, UTC. */
  at: z.string(),
});
export type Review = z.output<typeof reviewSchema>;

/**
 * People's decisions about films: one JSON object per line in `reviews.jsonl` of the state folder, which is only
 * appended to. The last decision about a film counts.
 */
export class Reviews {
  readonly #path: string;
  #latest: Promise<Map<string, Review>> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(stateDir: string) {
    this.#path = join(stateDir, 'reviews.jsonl');
  }

  /** The last decision about each film, by the film's id. */
  latest(): Promise<ReadonlyMap<string, Review>> {
    this.#latest ??= this.#read();
    return this.#latest;
  }

  /** Resolves when the decision is on the disk. Throws OUTPUT_UNWRITABLE. */
  async add(review: Review): Promise<void> {
    const latest = (await this.latest()) as Map<string, Review>;
    const added = this.#last.then(() => this.#append(`${JSON.stringify(review)}\n`));
    this.#last = added.catch(() => undefined);
    await added;
    latest.set(review.id, review);
  }

  async #append(line: string): Promise<void> {
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
      await durably('reviews.append', async () => {
        const file = await open(this.#path, 'a', 0o600);
        try {
          await appendFile(file, line);
          await file.sync();
        } finally {
          await file.close();
        }
      });
    } catch (cause) {
      throw new RxrayError('OUTPUT_UNWRITABLE', `${this.#path} cannot be written: ${messageOf(cause)}`, {
        cause,
      });
    }
  }

  async #read(): Promise<Map<string, Review>> {
    const text = await readFile(this.#path, 'utf8').catch((error: unknown) => {
      if (isCode(error, 'ENOENT')) return '';
      throw new RxrayError('OUTPUT_UNWRITABLE', `${this.#path} cannot be read: ${messageOf(error)}`, {
        cause: error,
      });
    });
    // After a crash the last line may be incomplete: the next one must start on a new line.
    if (text !== '' && !text.endsWith('\n')) await this.#append('\n');
    const reviews = text.split('\n').flatMap((line) => {
      const parsed = reviewSchema.safeParse(jsonOf(line));
      return parsed.success ? [[parsed.data.id, parsed.data] as const] : [];
    });
    return new Map(reviews);
  }
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
