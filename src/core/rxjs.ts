import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** Loads rxjs, which has 200 files: for modules that a thread with a stage of the user's imports for something else. */
export const rxjs = (): typeof import('rxjs') => require('rxjs') as typeof import('rxjs');
