import { errorKind, messageOf, RxrayError } from '../core/errors.js';
import { BundleError } from '../models/bundle.js';

/** The text of an error of films or bundles, which the user can mend. Throws any other error. */
export function usageErrorText(error: unknown): string {
  const kind = errorKind(error);
  if (!(error instanceof BundleError) && kind !== 'training' && kind !== 'model') throw error;
  return `${error instanceof RxrayError ? `${error.code} ` : ''}${messageOf(error)}`;
}
