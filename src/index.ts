/** What a plugin author imports from `rxray`. */
export { z } from 'zod';
export { defineSink, defineSource, defineStage } from './core/plugin.js';
export type * from './core/plugin.js';
export { frameBytes, imageOf, renderedOf } from './core/frame.js';
export type * from './core/frame.js';
export { wholeGroups } from './core/whole-groups.js';
export { suspicionAt, verdictOf } from './core/verdict.js';
export type * from './core/verdict.js';
export { RxrayError, Unavailable } from './core/errors.js';
export type { ErrorCode } from './core/errors.js';
export { PipelineError, runPipeline, type RunPipelineOptions } from './host/run-pipeline.js';
export type { Settled } from './core/flow/settled.js';
