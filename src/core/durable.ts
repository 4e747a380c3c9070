import { channel } from 'node:diagnostics_channel';

/** What is published on the diagnostics channel `rxray:durable`, in whichever thread does the work. */
export interface DurableStep {
  /** The component and its deed: `journal.commit`, `csv.append`, `deadletter.rename`. */
  readonly step: string;
  readonly phase: 'before' | 'after';
}

const steps = channel('rxray:durable');

/**
 * Does one thing that must outlive the process, and says so before and after it, so that a test can end the
 * process at exactly that place. Says nothing after a deed that failed, and costs nothing while nobody listens.
 */
export function durably<T>(step: string, act: () => Promise<T>): Promise<T> {
  return steps.hasSubscribers ? published(step, act) : act();
}

/** The same for what is done in one go. */
export function durablySync<T>(step: string, act: () => T): T {
  if (!steps.hasSubscribers) return act();
  steps.publish({ step, phase: 'before' } satisfies DurableStep);
  const result = act();
  steps.publish({ step, phase: 'after' } satisfies DurableStep);
  return result;
}

async function published<T>(step: string, act: () => Promise<T>): Promise<T> {
  steps.publish({ step, phase: 'before' } satisfies DurableStep);
  const result = await act();
  steps.publish({ step, phase: 'after' } satisfies DurableStep);
  return result;
}
