import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';

/**
 * The program of {@link EngineProcess}: passes calls and answers on between its parent and the engine's worker thread.
 * This thread stays free, so that the process ends with its parent, also while a model runs.
 */
const worker = new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url));
process.on('message', (envelope) => worker.postMessage(envelope));
worker.on('message', (reply: object) => process.send?.(reply));
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
