import { channel } from 'node:diagnostics_channel';

/** A message on the diagnostics channel `rxray:durable` of the thread that does the work. */
export interface DurableStep {
  /** The component and its action: `journal.commit`, `csv.append`, `deadletter.rename`. */
  readonly step: string;
  readonly phase: 'before' | 'after';
}

const steps = channel('rxray:durable');

/**
 * Performs one durable action, and publishes a message before and after it, so that a test can kill the process exactly
 * there. After a failed action there is no message. Without subscribers it costs nothing.
 */
export function durably<T>(step: string, act: () => Promise<T>): Promise<T> {
  return steps.hasSubscribers ? published(step, act) : act();
}

/** The same for a synchronous action. */
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
