/**
 * Node's options for threads of Piscina, which tries `require` before `import`: Node 20 aborts the process (`v8::Module::IsGraphAsync must be
 * used on an instantiated module`) if a thread is ended while it requires an ES module.
 */
export const IMPORTING: string[] = [...process.execArgv, '--no-experimental-require-module'];
