export type { DeviceReport } from './devices.js';
export { Engine } from './engine.js';
export type { EngineLog, EngineOptions, LoadOptions } from './load-options.js';
export { EngineError, type EngineErrorCode } from './errors.js';
export type { Graph, TensorInfo } from './graph.js';
export {
  float32Of,
  scalar,
  sizeOf,
  type EngineDataType,
  type HostData,
  type HostTensor,
  type HostTensors,
} from './host-tensor.js';
export {
  adaptClassifier,
  embedExternalFiles,
  externalFiles,
  isConvertible,
  lastOperators,
  opsetOf,
  type ValueInfo,
} from './onnx-edit.js';
export { readInitializers, readOnnx, writeOnnx, type OnnxContents, type WeightStorage } from './onnx.js';
export { batchNormTraining, type BatchNormTraining } from './ops/batch-norm-training.js';
export type { Device } from './protocol.js';
export { EngineSession } from './session.js';
export { NEXT } from './state-names.js';
export { StateStore } from './state-store.js';
export {
  traceToGraph,
  traceToOnnx,
  type InputSpec,
  type TensorMap,
  type TraceableFunction,
  type TracedModel,
  type TraceOptions,
} from './trace.js';
export { registerAllGradients } from './gradients/index.js';
export { probeDevices } from './probe-devices.js';
export { joinLoop, type LoopPlan } from './join-loop.js';
export { toOnnx, type ExportOptions, type LayersModel } from './to-onnx.js';
export { compile, type CompiledFunction } from './compile.js';
export { loadTensorFlow, TENSORFLOW_INSTALL, runtimeOn, type TensorFlowRuntime } from './tensorflow.js';
