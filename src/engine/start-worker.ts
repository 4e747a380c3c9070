import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';

/**
 * Starts the engine's worker, which is compiled beside this file: `.js` in a build, `.ts` when run from sources, where
 * the worker needs tsx's loader registered by hand (Node does not pass `--import` hooks on to workers).
 */
export function startWorker(): Worker {
  const extension = extname(import.meta.url);
  const entry = new URL(`./worker${extension}`, import.meta.url);
  if (extension !== '.ts') return new Worker(entry);
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx/package.json'));
  const loader = new URL('dist/esm/api/index.mjs', tsx).href;
  const bootstrap = `import(${JSON.stringify(loader)}).then(({ register }) => { register(); return import(${JSON.stringify(entry.href)}); })`;
  return new Worker(bootstrap, { eval: true });
}
