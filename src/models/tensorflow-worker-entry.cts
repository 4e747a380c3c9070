/** For Piscina, as `core/workers/worker-entry.cts`. */
export = import('./tensorflow-worker.js').then((worker) => worker.default);
