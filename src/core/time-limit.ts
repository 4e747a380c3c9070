import { RxrayError } from './errors.js';

/** The error of a frame that a stage works on for too long. */
export function tookTooLong(stage: string, ms: number): RxrayError {
  return new RxrayError('FRAME_STAGE', `the stage took longer than ${String(ms)} ms (\`timeoutMs\`)`, {
    component: stage,
  });
}

/** The result of `work`. Rejects with what `late` gives when it takes longer; the work itself is not stopped. */
export async function withinTime<T>(
  stage: string,
  ms: number,
  work: () => T | Promise<T>,
  late = (): RxrayError => tookTooLong(stage, ms),
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeUp = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(late());
    }, ms);
  });
  try {
    return await Promise.race([work(), timeUp]);
  } finally {
    clearTimeout(timer);
  }
}
