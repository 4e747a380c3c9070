import { mergeMap, type OperatorFunction } from 'rxjs';
import { absent, isLive, stepped, type LiveToken, type Token } from '../flow/ticket.js';
import type { Meter } from '../monitor/meter.js';
import type { Worked, WorkerPool } from '../workers/pool.js';
import type { Segment } from '../workers/segment.js';
import type { FailurePolicy } from './failure-policy.js';

/** A stage of a segment on the main thread. */
interface SegmentStage {
  readonly policy: FailurePolicy;
  readonly meter: Meter;
}

type Stopped = Worked['stopped'];

/**
 * Runs a segment: one task of a worker thread for each frame, on up to `concurrency` frames at a time. If a stage before
 * the last is watched, the task ends there and another begins, so that its pixels come out. A thread stops at
 * a failing stage and returns the frame as it was before it: retries and `onError:` are handled here.
 */
export function throughSegment(
  segment: Segment,
  stages: readonly SegmentStage[],
  pool: Pick<WorkerPool, 'process'>,
  concurrency: number,
): OperatorFunction<Token, Token> {
  const limitMs = segment.stages.reduce((sum, { timeoutMs = Infinity }) => sum + timeoutMs, 0);
  return mergeMap(apply, concurrency);

  async function apply(entering: Token): Promise<Token> {
    let token = entering;
    /** Number of the next stage. */
    let at = 0;
    /** How many stages have counted it as input: the first has. */
    let entered = 1;

    let stopped: Stopped;
    while (at < stages.length && isLive(token)) {
      stopped = stopped?.kind === 'failed' ? await again(token, stopped.error) : await work(token);
      if (stopped === undefined || stopped.kind === 'failed') continue;
      if (stopped.kind === 'undecided')
        token.ticket.fail(here().policy.id, stopped.error, 'FRAME_EXPRESSION');
      token = absent(token);
    }
    while (at < stages.length) {
      token = absent(token);
      leave();
    }
    return token;

    function here(): SegmentStage {
      return stages[at] as SegmentStage;
    }

    /** The next stage gets the token. */
    function enter(): Meter {
      const { meter } = here();
      if (entered === at) {
        meter.entered(token);
        entered += 1;
      }
      return meter;
    }

    /** The next stage has finished with the token. */
    function leave(): void {
      enter().left(token);
      at += 1;
    }

    /** Has a thread do the next stages. */
    async function work(live: LiveToken): Promise<Stopped> {
      const { frame } = live;
      const end = here().meter.begin(limitMs);
      const worked = await pool.process(segment, frame, at, endOfTask());
      end();
      let { started } = worked;
      const last = worked.reports.length - 1;
      worked.reports.forEach(({ ms, bytes }, i) => {
        const meter = enter();
        meter.worked(frame.id, started, ms, true);
        started += ms;
        if (i < last) {
          meter.handedOn(bytes);
          at += 1;
        } else {
          token = stepped(live, worked.frame);
          leave();
        }
      });
      const { stopped } = worked;
      if (stopped?.kind === 'failed') enter().worked(frame.id, started, stopped.ms, false);
      return stopped;
    }

    function endOfTask(): number {
      const watched = stages.findIndex(({ meter }, i) => i >= at && meter.watched);
      return watched < 0 ? stages.length : watched + 1;
    }

    /** Applies the policy of the next stage to its failure. */
    async function again(live: LiveToken, error: Error): Promise<Stopped> {
      const { policy } = here();
      const failing = at;
      let attempts = 0;
      try {
        return await policy.retry(async () => {
          attempts += 1;
          if (attempts === 1) throw error;
          const stopped = await work(live);
          if (at === failing && stopped?.kind === 'failed') throw stopped.error;
          return stopped;
        });
      } catch (thrown) {
        token = policy.fail(live, thrown);
        leave();
        return undefined;
      }
    }
  }
}
