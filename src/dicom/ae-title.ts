import { z } from 'zod';

/** An application entity title (PS3.5, 6.2). */
export const AE_TITLE = z
  .string()
  .regex(
    /^[\x21-\x7e](?:[\x20-\x7e]{0,14}[\x21-\x7e])?$/,
    'expected 1 to 16 ASCII characters, as AE titles have',
  )
  .refine((title) => !title.includes('\\'), 'an AE title has no backslash');
