/**
 * Piscina requires this file, and this file imports the program: Node 20 aborts the process (`v8::Module::IsGraphAsync must be used on an
 * instantiated module`) if a thread is ended while it requires an ES module.
 */
export = import('./worker.js').then((worker) => worker.default);
