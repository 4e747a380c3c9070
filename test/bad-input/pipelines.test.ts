import { expect } from 'chai';
import { film } from '../support/films.js';
import { GRAPH, Lab, type Result } from '../support/lab.js';

const PLUGIN = (body: string): string => `
import { defineStage } from 'rxray';
import { z } from 'zod';
${body}
`;

/** Pipeline files that cannot run: the file, what must be said of it, and the line it must be said of. */
const BAD: Record<string, { yaml: string; files?: Record<string, string>; says: (RegExp | string)[] }> = {
  'tabs for indentation': {
    yaml: GRAPH.replace('  - use: decode', '\t- use: decode'),
    says: ['CONFIG_SYNTAX', /tab/i, 'pipeline.yaml:7'],
  },
  'two entries of one id': {
    yaml: GRAPH.replace('- use: clahe', '- id: decode\n    use: clahe'),
    says: ['CONFIG_DUPLICATE_ID', 'decode'],
  },
  'a circle': {
    yaml: GRAPH.replace('- use: decode', '- use: decode\n    from: clahe'),
    says: ['CONFIG_CYCLE', 'decode', 'clahe'],
  },
  'an unknown plugin, an unknown key and a value of the wrong type, all at once': {
    yaml: GRAPH.replace('- use: decode', '- use: decod')
      .replace('- use: clahe', '- use: clahe\n    with: { clipLimit: soft }')
      .replace('{ path: ./out.csv }', '{ path: ./out.csv, separator: ";" }'),
    says: [
      'CONFIG_UNKNOWN_PLUGIN',
      'decode',
      'CONFIG_UNKNOWN_KEY',
      'separator',
      'CONFIG_INVALID',
      'clipLimit',
      'pipeline.yaml:7',
      'pipeline.yaml:9',
      'pipeline.yaml:12',
      '^',
    ],
  },
  'a missing model bundle': {
    yaml: GRAPH.replace('- use: clahe', '- use: clahe\n  - use: resnet\n    with: { bundle: ./nowhere }'),
    says: ['BUNDLE_NOT_FOUND', 'nowhere', 'pipeline.yaml:10'],
  },
  'a plugin that throws while it loads': {
    yaml: GRAPH.replace('use: clahe', 'use: ./stage.ts'),
    files: { 'stage.ts': PLUGIN(`throw new Error('no licence for this stage');`) },
    says: ['CONFIG_PLUGIN_BROKEN', 'stage.ts', 'no licence for this stage'],
  },
  'a plugin that throws in create': {
    yaml: GRAPH.replace('- use: clahe', '- id: invert\n    use: ./stage.ts'),
    files: {
      'stage.ts': PLUGIN(`
        export default defineStage({
          name: 'invert', summary: 'Inverts.', options: z.strictObject({}),
          create() { throw new Error('no table for this scanner'); },
        });`),
    },
    says: ['CONFIG_CREATE', 'invert', 'no table for this scanner'],
  },
  'plugins whose create returns no instance': {
    yaml: GRAPH.replace('- use: clahe', '- id: invert\n    use: ./stage.ts')
      .replace('use: csv', 'use: ./sink.ts')
      .replace('path: ./out.csv', ''),
    files: {
      'stage.ts': PLUGIN(`
        export default defineStage({
          name: 'invert', summary: 'Inverts.', options: z.strictObject({}),
          create: () => ({ proces: (frame) => frame }),
        });`),
      'sink.ts': PLUGIN(`
        import { defineSink } from 'rxray';
        export default defineSink({ name: 'out', summary: 'Writes.', options: z.strictObject({}), create() {} });`),
    },
    says: ['CONFIG_PLUGIN_BROKEN', 'returned an object with proces: expected an object with `process`'],
  },
};

describe('bad pipeline files', () => {
  const labs = new Map<string, Lab>();
  const results = new Map<string, Result>();

  before(async function () {
    this.timeout(60_000);
    for (const [title, { yaml, files }] of Object.entries(BAD)) {
      const lab = await Lab.open(yaml, { ...files, 'inbox/good.png': await film().png().toBuffer() });
      labs.set(title, lab);
      results.set(title, await lab.run());
    }
  });

  after(() => Promise.all([...labs.values()].map((lab) => lab.close())));

  for (const [title, { says }] of Object.entries(BAD)) {
    it(`${title}: refused with exit code 2 and the place, before any film is taken`, async () => {
      const result = results.get(title);
      expect(result?.code, result?.stderr).to.equal(2);
      for (const what of says) {
        if (typeof what === 'string') expect(result?.stderr).to.contain(what);
        else expect(result?.stderr).to.match(what);
      }
      expect(await labs.get(title)?.delivered()).to.deep.equal([]);
    });
  }
});
