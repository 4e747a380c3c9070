/** How the learning rate falls after its warm-up. */
export type Schedule = 'cosine' | 'step' | 'constant';

/**
 * Learning rate: linear warm-up over `warmup` steps, then `cosine`, half a cosine down to 1 % at `total`;
 * `step`, a tenth from half of the rest on and a hundredth from three quarters on (as He et al. 2015);
 * or `constant`.
 */
export function learningRateAt(
  step: number,
  peak: number,
  warmup: number,
  total: number,
  schedule: Schedule = 'cosine',
): number {
  if (step < warmup) return (peak * (step + 1)) / warmup;
  const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
  switch (schedule) {
    case 'cosine':
      return peak * (0.01 + 0.99 * 0.5 * (1 + Math.cos(Math.PI * progress)));
    case 'step':
      return progress < 0.5 ? peak : progress < 0.75 ? peak / 10 : peak / 100;
    case 'constant':
      return peak;
  }
}

/** {@link learningRateAt} of a training whose epochs have so many steps: by the epoch, from 1, and its step, from 0. */
export function scheduled(
  settings: {
    readonly learningRate: number;
    readonly warmupEpochs: number;
    readonly epochs: number;
    readonly schedule: Schedule;
  },
  steps: number,
): (epoch: number, step: number) => number {
  const { learningRate, warmupEpochs, epochs, schedule } = settings;
  return (epoch, step) =>
    learningRateAt((epoch - 1) * steps + step, learningRate, warmupEpochs * steps, epochs * steps, schedule);
}
