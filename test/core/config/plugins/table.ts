import { z } from 'zod';
import { defineSink } from '../../../../src/core/plugin.js';

export default defineSink({
  name: 'table',
  summary: 'Writes nothing.',
  options: z.strictObject({
    path: z.string().default('out.csv').describe('The file.'),
    columns: z
      .union([
        z.literal('all'),
        z.array(z.union([z.string(), z.strictObject({ name: z.string(), value: z.string() })])),
      ])
      .default('all')
      .describe('What to write.'),
  }),
  lint: ({ path }, { preceding }) =>
    path === 'taken'
      ? [
          {
            severity: 'error',
            option: ['path'],
            message: `${path} is taken, after ${preceding.map(({ use }) => use).join(', ')}`,
          },
        ]
      : [],
  create: () => ({ write: () => Promise.resolve() }),
});
