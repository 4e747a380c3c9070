import { EMPTY } from 'rxjs';
import { z } from 'zod';
import { defineSource } from '../../../../src/core/plugin.js';

export default defineSource({
  name: 'folder',
  summary: 'Offers nothing.',
  options: z.strictObject({
    path: z.string().describe('The folder.'),
    settleMs: z.number().min(0).default(500).describe('Rest before a file is taken.'),
    recursive: z.boolean().default(true).describe('Subfolders, too.'),
  }),
  lint: ({ path }, { preceding }) =>
    path === 'full'
      ? [{ severity: 'warning', option: ['path'], message: `${path}, after ${preceding.length} stages` }]
      : [],
  create: () => ({ candidates$: EMPTY }),
});
