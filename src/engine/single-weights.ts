import { replaceInitializers } from './onnx-edit.js';
import { eachField, HALF_SUFFIX, ONNX_HALF, ONNX_TYPE, readTensor, typedProto } from './onnx.js';

/**
 * The model with the weights that rxray stored in half precision in single precision, under the same names; the casts behind
 * them change nothing any more. WebGPU lets a GPU take a half below 2⁻¹⁴ for zero, and a latent search, which follows
 * the signs of small differences, then ends elsewhere.
 */
export function singleWeights(bytes: Uint8Array): Uint8Array {
  return replaceInitializers(bytes, (proto) => {
    let type = 0;
    eachField(proto, { 2: (r) => (type = r.int32()) });
    // Undefined for the halves of other tools, which are half throughout.
    const weight = type === ONNX_HALF ? readTensor(proto) : undefined;
    if (weight === undefined) return proto;
    return typedProto(weight.name + HALF_SUFFIX, ONNX_TYPE.float32, weight.dims, weight.data);
  });
}
