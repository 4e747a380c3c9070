import { z } from 'zod';
import { defineStage } from '../../../../src/core/plugin.js';

/** Reports what it sees, as a model stage does with its bundle. */
export default defineStage({
  name: 'score-it',
  summary: 'Scores nothing.',
  options: z.strictObject({
    bundle: z.string().describe('The folder of the model.'),
    trainedOn: z.array(z.string()).default([]).describe('The stages before it in training.'),
  }),
  runsIn: 'main',
  lint: ({ bundle, trainedOn }, { preceding }) => {
    if (bundle === 'explosive') throw new Error('it blew up');
    const seen = preceding.map(({ use }) => use).join(', ');
    return [
      ...(bundle === 'missing'
        ? [
            {
              severity: 'error',
              code: 'BUNDLE_NOT_FOUND',
              option: ['bundle'],
              message: `no model bundle at ${bundle}`,
            } as const,
          ]
        : []),
      ...(seen === trainedOn.join(', ')
        ? []
        : [
            {
              severity: 'warning',
              option: [],
              message: `trained after ${trainedOn.join(', ')}, here it comes after ${seen}`,
            } as const,
          ]),
    ];
  },
  create: () => ({ process: (frame) => frame }),
});
