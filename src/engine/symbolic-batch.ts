import { EngineError } from './errors.js';
import {
  isSubgraph,
  type Attribute,
  type Graph,
  type GraphNode,
  type Initializer,
  type TensorInfo,
} from './graph.js';

/** Batch sizes of the two traces that are compared; primes that models do not use as a channel count. */
export const TRACE_BATCHES = [13, 17] as const;
/** Name of the symbolic dimension. */
export const BATCH = 'N';
/** Dimensions of a `Reshape` that are not numbers. */
const AS_IN_INPUT = 0;
const INFERRED = -1;

/**
 * Joins two traces of one function, at the two {@link TRACE_BATCHES}, into a graph for any batch size. What differs must be
 * a dimension list; everything else would freeze the batch size in and throws {@link EngineError} `frozen-batch`.
 */
export function makeBatchSymbolic(first: Graph, second: Graph): Graph {
  const others = new Map(second.nodes.map((node) => [node.outputs[0], node]));
  if (first.nodes.length !== second.nodes.length)
    throw frozen('the number of operators depends on the batch size');
  for (const node of first.nodes) compareNodes(node, others.get(node.outputs[0]));
  const batchSize = new BatchSize(first);
  for (const [name, constant] of [...first.initializers]) {
    const other = second.initializers.get(name);
    if (other && sameBytes(constant, other)) continue;
    const users = first.nodes.filter((node) => node.inputs.includes(name));
    const where = users.map((node) => node.type).join(', ');
    if (constant.data.length !== other?.data.length || constant.dims.join() !== other.dims.join()) {
      throw frozen(
        `a constant of shape [${constant.dims.join()}] (used by ${where}) has the size of the batch`,
      );
    }
    if (!constant.shape || !other.shape)
      throw frozen(`a constant (used by ${where}) is computed from the batch size`);
    const values = Array.from<number | bigint>(constant.data);
    const dims = values.map((value, index) => joinDimension(Number(value), Number(other.data[index])));
    const { kept } = constant.shape;
    const { kept: alsoKept } = other.shape;
    const asReshape = dims.map((dim, axis) => {
      if (typeof dim === 'number') return dim;
      return kept[axis] === true && alsoKept[axis] === true ? AS_IN_INPUT : INFERRED;
    });
    const inferred = asReshape.filter((dim) => dim === INFERRED);
    if (users.every((node) => node.type === 'Reshape') && inferred.length <= 1) {
      constant.data.set(BigInt64Array.from(asReshape, BigInt) as never);
    } else {
      first.initializers.delete(name);
      batchSize.define(name, dims);
    }
  }
  first.nodes.unshift(...batchSize.nodes);
  first.inputs.splice(0, Infinity, ...joinInfos(first.inputs, second.inputs));
  first.outputs.splice(0, Infinity, ...joinInfos(first.outputs, second.outputs));
  return first;
}

/** A dimension that is `times` the batch size. */
interface BatchMultiple {
  readonly times: number;
}

function joinDimension(a: number, b: number): number | BatchMultiple {
  if (a === b) return a;
  const times = a / TRACE_BATCHES[0];
  if (Number.isInteger(times) && times * TRACE_BATCHES[1] === b) return { times };
  throw frozen(
    `a dimension is ${String(a)} at batch ${String(TRACE_BATCHES[0])} and ${String(b)} at batch ${String(TRACE_BATCHES[1])}`,
  );
}

function joinInfos(first: readonly TensorInfo[], second: readonly TensorInfo[]): TensorInfo[] {
  return first.map((info, index) => ({
    ...info,
    dims: info.dims.map((dim, axis) => {
      const joined = joinDimension(Number(dim), Number(second[index]?.dims[axis]));
      if (typeof joined === 'number') return joined;
      return joined.times === 1 ? BATCH : `${String(joined.times)}${BATCH}`;
    }),
  }));
}

/** Nodes that compute dimension lists from the batch size of the first batched input. */
class BatchSize {
  readonly nodes: GraphNode[] = [];
  #batch: string | undefined;

  constructor(readonly graph: Graph) {}

  define(name: string, dims: readonly (number | BatchMultiple)[]): void {
    const parts = dims.map((dim) => {
      if (typeof dim === 'number') return this.graph.integers([dim]);
      const batch = this.#batchName();
      return dim.times === 1 ? batch : this.#node('Mul', [batch, this.graph.integers([dim.times])]);
    });
    this.nodes.push({ type: 'Concat', inputs: parts, outputs: [name], attributes: { axis: 0 } });
  }

  #batchName(): string {
    if (this.#batch !== undefined) return this.#batch;
    const source = this.graph.inputs.find(({ dims }) => dims[0] === TRACE_BATCHES[0]);
    if (!source) throw frozen('no input has a batch dimension');
    const shape = this.#node('Shape', [source.name]);
    this.#batch = this.#node('Slice', [shape, this.graph.integers([0]), this.graph.integers([1])]);
    return this.#batch;
  }

  #node(type: string, inputs: string[]): string {
    const name = this.graph.unique(type);
    this.nodes.push({ type, inputs, outputs: [name], attributes: {} });
    return name;
  }
}

function sameBytes(a: Initializer, b: Initializer): boolean {
  const bytes = ({ data }: Initializer): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return a.dims.join() === b.dims.join() && bytes(a).equals(bytes(b));
}

function compareNodes(a: GraphNode, b: GraphNode | undefined): void {
  const same =
    a.type === b?.type &&
    a.inputs.join() === b.inputs.join() &&
    Object.entries(a.attributes).every(([key, value]) => sameAttribute(value, b.attributes[key]));
  if (!same) throw frozen(`the operator ${a.type} is set up differently for another batch size`);
}

function sameAttribute(a: Attribute, b: Attribute | undefined): boolean {
  if (b === undefined) return false;
  if (isSubgraph(a)) return isSubgraph(b);
  return JSON.stringify(a) === JSON.stringify(b);
}

function frozen(reason: string): EngineError {
  return new EngineError(
    'frozen-batch',
    `The traced function cannot be used at every batch size: ${reason}. Use sums over per-sample terms instead of ` +
      'means over the batch, and shapes instead of constants of the batch size.',
  );
}
