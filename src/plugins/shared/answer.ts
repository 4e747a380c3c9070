import { RxrayError } from '../../core/errors.js';

/**
 * The model's score of one film, if it is usable. Throws `FRAME_STAGE` otherwise: the host then retries with fewer
 * films, until the faulty one is alone.
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
  throw new RxrayError('FRAME_STAGE', `the model "${model}" failed on this film: ${found}`, {
    component,
  });
}
