// The compiled program, as users run it; the types are those of its sources.
const built = (module: string): string => new URL(`../dist/${module}.js`, import.meta.url).href;

export const { loadPipeline } = (await import(
  built('core/config/load')
)) as typeof import('../src/core/config/load.js');
export const { startPipeline } = (await import(built('core/run'))) as typeof import('../src/core/run.js');
export const { Journal } = (await import(
  built('core/journal/journal')
)) as typeof import('../src/core/journal/journal.js');
export const { createHost } = (await import(built('host/host'))) as typeof import('../src/host/host.js');
export const { createLog } = (await import(built('cli/log'))) as typeof import('../src/cli/log.js');
export const { builtInRegistry } = (await import(
  built('host/builtins')
)) as typeof import('../src/host/builtins.js');
export const { Engine } = (await import(built('engine/index'))) as typeof import('../src/engine/index.js');
export const { readBundle } = (await import(
  built('models/bundle')
)) as typeof import('../src/models/bundle.js');
export const { inputTensor } = (await import(
  built('models/input-tensor')
)) as typeof import('../src/models/input-tensor.js');
export const { decode } = (await import(
  built('plugins/decode')
)) as typeof import('../src/plugins/decode.js');
export const { clahe, resize } = (await import(
  built('imaging/kernels')
)) as typeof import('../src/imaging/kernels.js');
export const { equalizeHist } = (await import(
  built('imaging/equalize-hist')
)) as typeof import('../src/imaging/equalize-hist.js');
export const { phantomFilm } = (await import(
  built('imaging/phantom')
)) as typeof import('../src/imaging/phantom.js');
