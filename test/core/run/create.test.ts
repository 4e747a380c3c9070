import { expect } from 'chai';
import type { Log } from '../../../src/core/plugin.js';
import { OpenPlugins } from '../../../src/core/run/create.js';

describe('a plugin that is created', () => {
  it('is named in the log while it does not start', async () => {
    let told: (line: unknown) => void;
    const warned = new Promise((resolve) => (told = resolve));
    const log = {
      warn: (fields: object, message: string) => {
        told({ ...fields, message });
      },
    } as unknown as Log;
    // It starts when it has been told of.
    const made = new OpenPlugins(log, 1).creating('database', async () => {
      await warned;
      return 'made';
    });
    // The timer keeps no process alive.
    const alive = setTimeout(() => undefined, 10_000);
    expect(await warned).to.deep.equal({
      component: 'database',
      message: 'it is still starting: films wait until it has started',
    });
    expect(await made).to.equal('made');
    clearTimeout(alive);
  });
});
