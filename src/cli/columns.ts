import { z } from 'zod';
import { RxrayError } from '../core/errors.js';

const schema = z.partialRecord(z.enum(['path', 'class', 'split', 'patient', 'duplicateOf']), z.string());

/** `--columns path=file,class=label`. Throws `TRAINING_DATA`. */
export function columnsOf(text: string | undefined): z.output<typeof schema> {
  if (text === undefined) return {};
  const parsed = schema.safeParse(Object.fromEntries(text.split(',').map((pair) => pair.split('='))));
  if (parsed.success) return parsed.data;
  throw new RxrayError('TRAINING_DATA', `--columns ${text}: ${z.prettifyError(parsed.error)}`);
}
