/** Callbacks of a training, its checkpoint folder, and how it is stopped. */
export interface TrainingHooks<Epoch> {
  readonly checkpointDir: string;
  /** Resumes from the checkpoint. */
  readonly resume?: boolean;
  /** Stops after the running step, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Milliseconds since 1970: stops after the running step, with a checkpoint, and returns the result so far. */
  readonly deadline?: number;
  /** Called when that has ended the training. */
  readonly onDeadline?: () => void;
  readonly onStep?: (done: number, total: number, epoch: number, loss: number) => void;
  readonly onEpoch?: (epoch: Epoch, best: boolean) => void;
}

export function isStopped({ signal, deadline, onDeadline }: TrainingHooks<never>): boolean {
  if (signal?.aborted === true) return true;
  const isOver = deadline !== undefined && Date.now() > deadline;
  if (isOver) onDeadline?.();
  return isOver;
}

/** How the networks that score films are stored, and a callback for progress. */
export interface FilmScoring {
  readonly half?: boolean;
  readonly onProgress?: (done: number, total: number) => void;
}
