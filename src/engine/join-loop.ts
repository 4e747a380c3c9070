import { Graph } from './graph.js';
import { NEXT } from './state-names.js';

/** How {@link joinLoop} connects the two graphs. */
export interface LoopPlan {
  /** Name of the new int64 scalar input: how often the body runs. */
  readonly tripCount: string;
  /** Values the loop carries: the body has inputs `loop/x` and outputs `loop/next/x`; the result gets `x` and `next/x`. */
  readonly carried: readonly string[];
}

/**
 * Puts a graph behind an ONNX `Loop` that runs `body`. Inputs of `result` named `next/x` are what the loop leaves in `x`.
 * Other inputs of `body` become inputs of the whole. Each keeps its own constants: ONNX Runtime prepares weights for a convolution only where they belong to the
 * same graph. In half precision `writeOnnx` stores what both have only once.
 */
export function joinLoop(result: Graph, body: Graph, { tripCount, carried }: LoopPlan): Graph {
  const inner = new Graph(body.prefix);
  inner.nodes = body.nodes;
  const own = (name: string): string =>
    body.initializers.has(name) && !name.startsWith(body.prefix) ? body.prefix + name : name;
  for (const { data, dims, name } of body.initializers.values()) inner.constant(data, dims, own(name));
  for (const { inputs } of inner.nodes) inputs.splice(0, Infinity, ...inputs.map(own));
  const running = 'loop/running';
  const goesOn = 'loop/goesOn';
  inner.nodes.push({ type: 'Identity', inputs: [running], outputs: [goesOn], attributes: {} });
  inner.inputs.push(
    { name: 'loop/iteration', dtype: 'int64', dims: [] },
    { name: running, dtype: 'bool', dims: [] },
    ...body.inputs.filter(({ name }) => carried.some((value) => name === `loop/${value}`)),
  );
  inner.outputs.push({ name: goesOn, dtype: 'bool', dims: [] }, ...body.outputs);
  const given = result.inputs.filter(({ name }) => !name.startsWith(NEXT));
  const known = new Set(given.map(({ name }) => name));
  const entering = body.inputs
    .map((info) => ({ ...info, name: info.name.replace(/^loop\//, '') }))
    .filter(({ name }) => !known.has(name));
  result.inputs.splice(0, Infinity, ...given, ...entering, { name: tripCount, dtype: 'int64', dims: [] });
  result.nodes.unshift({
    type: 'Loop',
    inputs: [tripCount, '', ...carried],
    outputs: carried.map((name) => NEXT + name),
    attributes: { body: { graph: inner } },
  });
  result.outputs.push(...body.outputs.map((info) => ({ ...info, name: info.name.replace(/^loop\//, '') })));
  return result;
}
