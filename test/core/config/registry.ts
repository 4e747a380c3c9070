import { PluginRegistry } from '../../../src/core/plugins/registry.js';

const url = (name: string): string => new URL(`plugins/${name}.ts`, import.meta.url).href;

/** Small plugins of the tests' own: the messages do not change with the real ones. */
export const registry = new PluginRegistry({
  source: { folder: url('folder') },
  stage: { blur: url('blur'), 'score-it': url('score') },
  sink: { table: url('table') },
});
