import type { Contender } from './contender.js';

/** A fixed time to be measured against. */
export function target(ms: number): Contender {
  return {
    name: 'the goal',
    mode: 'a fixed time',
    details: {},
    run: async (times) => Array.from({ length: times }, () => ms),
    dispose: async () => undefined,
  };
}
