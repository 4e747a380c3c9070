/** For Piscina, as `core/workers/worker-entry.cts`. */
export = import('./batch-worker.js').then((worker) => worker.default);
