import { Observable, Subscription, type OperatorFunction } from 'rxjs';
import { messageOf } from '../errors.js';
import type { Frame, Image } from '../frame.js';
import type { BatchStage } from '../plugin.js';
import type { FailurePolicy } from './failure-policy.js';
import { absent, advance, isLive, type LiveToken, type Token } from '../flow/ticket.js';

export interface BatchOptions {
  /** Maximum number of frames in a batch. */
  readonly size: number;
  /** Maximum time that a frame waits for others, while the device is busy or more frames are coming. */
  readonly waitMs: number;
  /** Whether more frames are coming in the graph. Default: never. */
  readonly isMoreComing?: () => boolean;
  /** Maximum number of concurrent batches. */
  readonly concurrency: number;
}

interface Waiting {
  readonly token: LiveToken;
  readonly since: number;
}

/**
 * Runs a batch stage. A batch has frames of one shape (size, channels, sample type). A single frame never waits for an
 * free device; with many frames a short wait is worthwhile, because a batch costs less than single frames. A batch that
 * throws is halved until only the faulty frame fails. If the runtime has no memory for a batch, batches are smaller
 * from then on.
 */
export function inBatches(
  { id, log, retry, fail }: FailurePolicy,
  stage: BatchStage,
  { size: largest, waitMs, isMoreComing = () => false, concurrency }: BatchOptions,
): OperatorFunction<Token, Token> {
  return (input) =>
    new Observable((subscriber) => {
      let size = largest;
      /** Waiting frames, by shape; the shape with the oldest first frame comes first. */
      const queues = new Map<string, Waiting[]>();
      let running = 0;
      let completed = false;
      let timer: NodeJS.Timeout | undefined;

      function isFree(): boolean {
        return stage.device?.free ?? stage.device?.idle ?? running === 0;
      }

      function pump(): void {
        clearTimeout(timer);
        timer = undefined;
        while (running < concurrency) {
          const [shape, queue] = oldest(queues) ?? [];
          const first = queue?.[0];
          if (shape === undefined || queue === undefined || first === undefined) break;
          const age = performance.now() - first.since;
          const waits = !completed && (!isFree() || isMoreComing());
          if (queue.length < size && age < waitMs && waits) {
            timer = setTimeout(pump, Math.ceil(waitMs - age));
            return;
          }
          const taken = queue.splice(0, size);
          if (queue.length === 0) queues.delete(shape);
          running += 1;
          void run(taken.map(({ token }) => token)).finally(() => {
            running -= 1;
            pump();
          });
        }
        if (completed && running === 0 && queues.size === 0) subscriber.complete();
      }

      async function run(tokens: readonly LiveToken[]): Promise<void> {
        const live = tokens.filter((token) => isLive(token) || emit(absent(token)));
        if (live.length === 0) return;
        let out: readonly Token[];
        try {
          const attempt = () => stage.processBatch(live.map(({ frame }) => frame));
          const frames = await (live.length === 1 ? retry(attempt) : attempt());
          if (frames.length !== live.length) {
            throw new Error('the stage did not return the frames of its batch, one for one and in order');
          }
          out = live.map((token, index) => advance(token, frames[index] as Frame));
        } catch (thrown) {
          const [only, ...others] = live;
          if (only !== undefined && others.length === 0) {
            emit(fail(only, thrown));
            return;
          }
          const half = live.length >> 1;
          if (isAllocationFailure(thrown) && half < size) {
            size = half;
            log.warn(
              { stage: id, size },
              `there is no memory for ${String(live.length)} frames at once: batches are halved`,
            );
          }
          await run(live.slice(0, half));
          await run(live.slice(half));
          return;
        }
        out.forEach(emit);
      }

      /** Always false, for use in a filter. */
      function emit(token: Token): false {
        subscriber.next(token);
        return false;
      }

      const subscription = new Subscription(() => clearTimeout(timer));
      subscription.add(stage.device?.idle$.subscribe(pump));
      subscription.add(
        input.subscribe({
          next: (token) => {
            if (!isLive(token)) {
              emit(absent(token));
              // Others may have waited for it.
              pump();
              return;
            }
            const shape = shapeOf(token.frame.image);
            const queue = queues.get(shape) ?? [];
            queue.push({ token, since: performance.now() });
            queues.set(shape, queue);
            pump();
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => {
            completed = true;
            pump();
          },
        }),
      );
      return subscription;
    });
}

function oldest(queues: ReadonlyMap<string, Waiting[]>): [string, Waiting[]] | undefined {
  return [...queues].reduce<[string, Waiting[]] | undefined>(
    (best, entry) =>
      best === undefined || (entry[1][0]?.since ?? 0) < (best[1][0]?.since ?? 0) ? entry : best,
    undefined,
  );
}

function shapeOf(image: Image | undefined): string {
  if (image === undefined) return 'none';
  return `${String(image.width)}×${String(image.height)}×${String(image.channels)} ${image.data.constructor.name}`;
}

/**
 * Whether the error means that memory ran out: for ONNX Runtime on CPU and CUDA, Dawn (WebGPU), TensorFlow, and V8.
 * They throw plain errors, so their messages are matched.
 */
function isAllocationFailure(thrown: unknown): boolean {
  return /\bbad[_ ]alloc|failed to allocate memory|out of memory|\bOOM\b|RESOURCE_EXHAUSTED|allocation failed/i.test(
    messageOf(thrown),
  );
}
