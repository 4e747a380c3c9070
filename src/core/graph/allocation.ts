import { messageOf } from '../errors.js';

/**
 * Whether the error means that memory ran out: for ONNX Runtime on CPU and CUDA, Dawn (WebGPU), TensorFlow, and V8.
 * They throw plain errors, so their messages are matched.
 */
export function isAllocationFailure(thrown: unknown): boolean {
  return /\bbad[_ ]alloc|failed to allocate memory|out of memory|\bOOM\b|RESOURCE_EXHAUSTED|allocation failed/i.test(
    messageOf(thrown),
  );
}
