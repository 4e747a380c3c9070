import { type EngineDataType, type HostData } from './host-tensor.js';

/** A node attribute. A bare `number` is an INT; floats are wrapped so that 1.0 stays a float. */
export type Attribute =
  number | string | readonly number[] | { readonly float: number } | { readonly graph: Graph };

/** One operator call. */
export interface GraphNode {
  readonly type: string;
  readonly inputs: string[];
  readonly outputs: string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** A constant of the graph. */
export interface Initializer {
  readonly name: string;
  readonly data: HostData;
  readonly dims: readonly number[];
  /** Set for dimension lists, where a batch size may be made symbolic. */
  readonly shape?: ShapeConstant;
}

/** Properties of a dimension list. */
export interface ShapeConstant {
  /** For a `Reshape`: the dimensions that its input has in the same places. */
  readonly kept: readonly boolean[];
}

/** Name, type and dimensions of an input or output; a string dimension is symbolic (`"N"`). */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: EngineDataType;
  readonly dims: readonly (number | string)[];
}

/** A list of ONNX nodes under construction. Names are deterministic: two equal traces give equal names. */
export class Graph {
  nodes: GraphNode[] = [];
  initializers = new Map<string, Initializer>();
  readonly inputs: TensorInfo[] = [];
  readonly outputs: TensorInfo[] = [];
  readonly metadata: Record<string, string> = {};
  readonly #scalars = new Map<string, string>();
  #counter = 0;

  /** `prefix` keeps the names of a sub-graph apart from those of the graph around it. */
  constructor(readonly prefix = '') {}

  /** A name not used before in this graph. */
  unique(stem: string): string {
    return `${this.prefix}${stem}_${String(this.#counter++)}`;
  }

  /** Appends a node with one output and returns that output's name. */
  add(type: string, inputs: readonly string[], attributes: Readonly<Record<string, Attribute>> = {}): string {
    return this.addMany(type, inputs, 1, attributes)[0] ?? '';
  }

  /** Appends a node with `count` outputs. */
  addMany(
    type: string,
    inputs: readonly string[],
    count: number,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string[] {
    const outputs = Array.from({ length: count }, () => this.unique(type));
    this.nodes.push({ type, inputs: [...inputs], outputs, attributes });
    return outputs;
  }

  /** Asks the node behind `output` for a further output. */
  addOutput(output: string): string {
    const node = this.nodes.find(({ outputs }) => outputs[0] === output);
    const name = this.unique(node?.type ?? 'output');
    node?.outputs.push(name);
    return name;
  }

  /** Adds a constant tensor and returns its name. */
  constant(data: HostData, dims: readonly number[], name = this.unique('const')): string {
    this.initializers.set(name, { name, data, dims: [...dims] });
    return name;
  }

  /** A rank-0 constant; equal scalars share one initialiser. */
  scalar(value: number, dtype: EngineDataType = 'float32'): string {
    const key = `${dtype}:${Object.is(value, -0) ? '-0' : String(value)}`;
    const known = this.#scalars.get(key);
    if (known !== undefined) return known;
    const name = this.constant(fromNumbers([value], dtype), []);
    this.#scalars.set(key, name);
    return name;
  }

  /** An int64 list of plain numbers (axes, pads, starts). */
  integers(values: readonly number[]): string {
    return this.constant(BigInt64Array.from(values, BigInt), [values.length]);
  }

  /** An int64 list of dimensions, in which the batch size may become symbolic. */
  dimensions(values: readonly number[]): string {
    return this.#dimensions(values, []);
  }

  /**
   * Appends a `Reshape`. Both dimension lists are given, so that a batch size that stays in its place can be written as "as
   * in the input": ONNX Runtime then identifies the dimension by its name, and reuses buffers behind it.
   */
  reshape(name: string, from: readonly number[], to: readonly number[]): string {
    // A zero in a Reshape would mean "as it was".
    const allowzero = to.includes(0) ? { allowzero: 1 } : {};
    const kept = to.map((dim, axis) => dim === from[axis]);
    return this.add('Reshape', [name, this.#dimensions(to, kept)], allowzero);
  }

  #dimensions(values: readonly number[], kept: readonly boolean[]): string {
    const name = this.unique('dims');
    const data = BigInt64Array.from(values, BigInt);
    this.initializers.set(name, { name, data, dims: [values.length], shape: { kept } });
    return name;
  }

  /** Drops nodes and constants that reach no output. */
  prune(): void {
    const needed = new Set(this.outputs.map((output) => output.name));
    const kept: GraphNode[] = [];
    for (const node of this.nodes.toReversed()) {
      if (!node.outputs.some((output) => needed.has(output))) continue;
      kept.push(node);
      for (const input of node.inputs) needed.add(input);
      for (const attribute of Object.values(node.attributes)) {
        if (isSubgraph(attribute)) for (const name of outerNames(attribute.graph)) needed.add(name);
      }
    }
    this.nodes = kept.reverse();
    for (const name of this.initializers.keys()) if (!needed.has(name)) this.initializers.delete(name);
  }

  /**
   * Gives a value that an `Identity` would copy into an output the output's name instead: ONNX Runtime copies where the value
   * has other users too.
   */
  nameOutputs(): void {
    const outputs = new Set(this.outputs.map(({ name }) => name));
    const made = new Set(this.nodes.flatMap(({ type, outputs: own }) => (type === 'Identity' ? [] : own)));
    const names = new Map<string, string>();
    this.nodes = this.nodes.filter(({ type, inputs: [value = ''], outputs: [name = ''] }) => {
      if (type !== 'Identity' || !outputs.has(name) || !made.has(value) || names.has(value)) return true;
      names.set(value, name);
      return false;
    });
    const renamed = (name: string): string => names.get(name) ?? name;
    for (const { inputs, outputs: own } of this.nodes) {
      inputs.splice(0, Infinity, ...inputs.map(renamed));
      own.splice(0, Infinity, ...own.map(renamed));
    }
  }
}

/** Whether an attribute holds a sub-graph. */
export function isSubgraph(attribute: Attribute): attribute is { readonly graph: Graph } {
  return typeof attribute === 'object' && 'graph' in attribute;
}

/** Typed array of `dtype` from plain numbers. */
export function fromNumbers(values: ArrayLike<number>, dtype: EngineDataType): HostData {
  switch (dtype) {
    case 'float32':
      return Float32Array.from(values);
    case 'int32':
      return Int32Array.from(values);
    case 'bool':
      return Uint8Array.from(values);
    case 'int64':
      return BigInt64Array.from(Array.from(values), BigInt);
  }
}

function outerNames(graph: Graph): Set<string> {
  const own = new Set([...graph.inputs.map((input) => input.name), ...graph.initializers.keys()]);
  for (const node of graph.nodes) for (const output of node.outputs) own.add(output);
  const outer = new Set<string>();
  const mention = (name: string): void => {
    if (name !== '' && !own.has(name)) outer.add(name);
  };
  for (const node of graph.nodes) node.inputs.forEach(mention);
  for (const output of graph.outputs) mention(output.name);
  return outer;
}
