import type { Attribute, GraphNode } from './graph.js';
import { replaceNodes } from './onnx-edit.js';

/**
 * The model with every `BatchNormalization` in training mode, which ONNX Runtime's WebGPU provider refuses, composed of plain
 * operators: (x − mean) · γ ÷ √(variance + ε) + β with the statistics of the batch over all axes but the second
 * (Ioffe and Szegedy 2015). The running statistics become those of the batch, as momentum 0 makes them: rxray's training
 * steps use no other.
 */
export function plainBatchNorm(bytes: Uint8Array): Uint8Array {
  return replaceNodes(bytes, ({ type, inputs, outputs, attributes }) => {
    if (type !== 'BatchNormalization' || attributes.training_mode !== 1) return undefined;
    const [x = '', gamma = '', beta = ''] = inputs;
    const [y = '', mean = '', variance = ''] = outputs;
    const nodes: GraphNode[] = [];
    const name = (part: string): string => `${y}/${part}`;
    const add = (
      operator: string,
      operands: string[],
      result: string,
      given: Readonly<Record<string, Attribute>> = {},
    ): string => {
      nodes.push({ type: operator, inputs: operands, outputs: [result], attributes: given });
      return result;
    };
    const integers = (part: string, values: readonly number[]): string =>
      add('Constant', [], name(part), { value_ints: values });
    const acrossBatch = { axes: [0, 2], keepdims: 1 };
    // [N,C,…] → [N,C,L], whatever the rank.
    const flat = add('Reshape', [x, integers('flat-shape', [0, 0, -1])], name('flat'));
    const perChannel = integers('channel-shape', [1, -1, 1]);
    const vector = integers('vector-shape', [-1]);
    const centre = add('ReduceMean', [flat], name('mean'), acrossBatch);
    const centred = add('Sub', [flat, centre], name('centred'));
    const squares = add('Mul', [centred, centred], name('squares'));
    const spread = add('ReduceMean', [squares], name('variance'), acrossBatch);
    const epsilon = add('Constant', [], name('epsilon'), {
      value_float: attributes.epsilon ?? { float: 1e-5 },
    });
    const deviation = add('Sqrt', [add('Add', [spread, epsilon], name('spread'))], name('deviation'));
    const scale = add('Div', [add('Reshape', [gamma, perChannel], name('gamma')), deviation], name('scale'));
    const offset = add('Reshape', [beta, perChannel], name('beta'));
    const scaled = add('Add', [add('Mul', [centred, scale], name('scaled')), offset], name('normalised'));
    add('Reshape', [scaled, add('Shape', [x], name('shape'))], y);
    if (mean !== '') add('Reshape', [centre, vector], mean);
    if (variance !== '') add('Reshape', [spread, vector], variance);
    return nodes;
  });
}
