/**
 * The test kit for plugin authors, `rxray/testing`: contract suites that every plugin must pass, and
 * frames and services to test with. Works with mocha, vitest, jest and node:test.
 *
 * @module
 */
export type { Factory, Harness, TestRunner } from './testing/contract.js';
export type { FilmToTest, Mock, TestedFilm } from './testing/graph.js';
export { runGraph, type RunGraphOptions } from './testing/run-graph.js';
export { makeFrame, type FrameOptions } from './testing/frame.js';
export { testServices, type TestServices, type TestServicesOptions } from './testing/services.js';
export { sinkContract, type SinkHarness } from './testing/sink-contract.js';
export { sourceContract, type SourceHarness } from './testing/source-contract.js';
export { runStage, stageContract, type StageHarness } from './testing/stage-contract.js';
