import { RxrayError } from '../../core/errors.js';

/**
 * The model's answer to one film, when it is usable. Throws `FRAME_STAGE` otherwise: the host then asks again with fewer
 * films, until the one at fault is alone.
 *
 * @param score Undefined when the model returned no row for the film.
 */
export function requireAnswer<T>(
  answer: T | undefined,
  scoreOf: (answer: T) => number,
  { model, component }: { readonly model: string; readonly component: string },
): T {
  const score = answer === undefined ? NaN : scoreOf(answer);
  if (answer !== undefined && Number.isFinite(score)) return answer;
  const found = answer === undefined ? 'it returned too few rows' : `its score is ${score}`;
  throw new RxrayError('FRAME_STAGE', `the model "${model}" has no answer to this film: ${found}`, {
    component,
  });
}
