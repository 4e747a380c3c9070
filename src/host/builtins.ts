import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PluginRegistry } from '../core/plugins/registry.js';
import type { BuiltIns } from '../core/plugins/registry.js';

const EXTENSION = extname(fileURLToPath(import.meta.url));

function modules(folder: string, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.map((name) => [name, new URL(`../${folder}/${name}${EXTENSION}`, import.meta.url).href]),
  );
}

/** The plugins that come with the program: one file each, loaded only when a graph uses them. */
export const builtIns: BuiltIns = {
  source: modules('plugins', ['watch', 'dimse', 'dicomweb', 'manifest']),
  stage: modules('plugins', [
    'decode',
    'clahe',
    'resize',
    'equalize',
    'normalize',
    'crop',
    'join',
    'resnet',
    'anogan',
    'patchcore',
    'unet',
    'mask',
    'retinanet',
  ]),
  sink: modules('sinks', ['csv', 'jsonl', 'sqlite', 'folder', 'webhook', 'dimse', 'dicomweb', 'console']),
};

export function builtInRegistry(): PluginRegistry {
  return new PluginRegistry(builtIns);
}
