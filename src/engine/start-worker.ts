import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';

/**
 * Starts the engine's worker, which is compiled beside this file: `.js` in a build, `.ts` when run from sources, where
 * the worker needs tsx's loader registered by hand (Node does not pass `--import` hooks on to workers).
 */
export function startWorker(): Worker {
  const extension = extname(import.meta.url);
  const entry = new URL(`./worker${extension}`, import.meta.url);
  if (extension !== '.ts') return new Worker(entry);
  const loader = import.meta.resolve('tsx/esm/api');
  const bootstrap = `import(${JSON.stringify(loader)}).then(({ register }) => { register(); return import(${JSON.stringify(entry.href)}); })`;
  return new Worker(bootstrap, { eval: true });
}
