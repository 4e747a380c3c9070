import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { EngineError } from './errors.js';
import { fromHalf, toHalf } from './half.js';
import {
  isSubgraph,
  type Attribute,
  type Graph,
  type GraphNode,
  type Initializer,
  type TensorInfo,
} from './graph.js';
import {
  dataTypeOf,
  inverseOrder,
  permute,
  type EngineDataType,
  type HostData,
  type HostTensors,
} from './host-tensor.js';

/** ONNX IR version and operator set that are written. */
export const ONNX_IR_VERSION = 8;
export const ONNX_OPSET = 17;
/** Metadata key: JSON of the axis order in which a named tensor is stored (see docs/engine.md, Layout). */
export const LAYOUT_KEY = 'rxray.layouts';

/** TensorProto.DataType. */
export const ONNX_TYPE: Readonly<Record<EngineDataType, number>> = {
  float32: 1,
  int32: 6,
  int64: 7,
  bool: 9,
};
/** TensorProto.DataType of float16: stored weights, and arithmetic on a GPU. */
export const ONNX_HALF = 10;
/** Ends the name of a constant in half precision; a Cast restores its own name. */
export const HALF_SUFFIX = ':half';

/** `half` stores matrices and filters in half precision; the arithmetic stays in single. */
export type WeightStorage = 'single' | 'half';

const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, graph: 5, ints: 7 } as const;

/** Serialises a graph as an ONNX ModelProto (onnx.proto3; opset 17, IR version 8). */
export function writeOnnx(graph: Graph, storage: WeightStorage = 'single'): Uint8Array {
  const w = new BinaryWriter();
  w.tag(1, WireType.Varint).int64(ONNX_IR_VERSION);
  w.tag(2, WireType.LengthDelimited).string('rxray');
  w.tag(7, WireType.LengthDelimited).bytes(graphProto(graph, storage));
  w.tag(8, WireType.LengthDelimited).fork().tag(2, WireType.Varint).int64(ONNX_OPSET).join();
  for (const [key, value] of Object.entries(graph.metadata)) {
    w.tag(14, WireType.LengthDelimited).fork();
    w.tag(1, WireType.LengthDelimited).string(key).tag(2, WireType.LengthDelimited).string(value).join();
  }
  return w.finish();
}

/**
 * `outer`: the halved weights of the graph around a sub-graph. What has the same values is stored there once; the Cast
 * still gives the sub-graph constants of its own, which ONNX Runtime prepares for its convolutions.
 */
function graphProto(
  graph: Graph,
  storage: WeightStorage = 'single',
  outer: readonly Initializer[] = [],
): Uint8Array {
  const w = new BinaryWriter();
  const all = [...graph.initializers.values()];
  const halved = new Set(storage === 'half' ? all.filter(isWeight) : []);
  const shared = new Map(
    [...halved].flatMap((weight) => {
      const same = outer.find((other) => isSame(other, weight));
      return same === undefined ? [] : [[weight, same]];
    }),
  );
  const initializers = all.filter((each) => !shared.has(each));
  for (const weight of halved) {
    const { name } = shared.get(weight) ?? weight;
    const attributes = { to: ONNX_TYPE.float32 };
    const cast = { type: 'Cast', inputs: [name + HALF_SUFFIX], outputs: [weight.name], attributes };
    w.tag(1, WireType.LengthDelimited).bytes(nodeProto(cast));
  }
  const below = (subgraph: Graph): Uint8Array => graphProto(subgraph, storage, [...outer, ...halved]);
  for (const node of graph.nodes) w.tag(1, WireType.LengthDelimited).bytes(nodeProto(node, below));
  w.tag(2, WireType.LengthDelimited).string(`${graph.prefix}graph`);
  for (const initializer of initializers) {
    const proto = halved.has(initializer) ? halfProto(initializer) : tensorProto(initializer);
    w.tag(5, WireType.LengthDelimited).bytes(proto);
  }
  for (const input of graph.inputs) w.tag(11, WireType.LengthDelimited).bytes(valueInfoProto(input));
  for (const output of graph.outputs) w.tag(12, WireType.LengthDelimited).bytes(valueInfoProto(output));
  return w.finish();
}

export function nodeProto(
  node: GraphNode,
  subgraphProto: (graph: Graph) => Uint8Array = (graph) => graphProto(graph),
): Uint8Array {
  const w = new BinaryWriter();
  for (const input of node.inputs) w.tag(1, WireType.LengthDelimited).string(input);
  for (const output of node.outputs) w.tag(2, WireType.LengthDelimited).string(output);
  w.tag(3, WireType.LengthDelimited).string(node.outputs[0] ?? node.type);
  w.tag(4, WireType.LengthDelimited).string(node.type);
  for (const [name, value] of Object.entries(node.attributes)) {
    w.tag(5, WireType.LengthDelimited).bytes(attributeProto(name, value, subgraphProto));
  }
  return w.finish();
}

export function attributeProto(
  name: string,
  value: Attribute,
  subgraphProto: (graph: Graph) => Uint8Array = (graph) => graphProto(graph),
): Uint8Array {
  const w = new BinaryWriter();
  w.tag(1, WireType.LengthDelimited).string(name);
  const type = (code: number): BinaryWriter => w.tag(20, WireType.Varint).int32(code);
  if (typeof value === 'number') {
    w.tag(3, WireType.Varint).int64(value);
    type(ATTRIBUTE_TYPE.int);
  } else if (typeof value === 'string') {
    w.tag(4, WireType.LengthDelimited).string(value);
    type(ATTRIBUTE_TYPE.string);
  } else if (isSubgraph(value)) {
    w.tag(6, WireType.LengthDelimited).bytes(subgraphProto(value.graph));
    type(ATTRIBUTE_TYPE.graph);
  } else if ('float' in value) {
    w.tag(2, WireType.Bit32).float(value.float);
    type(ATTRIBUTE_TYPE.float);
  } else {
    for (const item of value) w.tag(8, WireType.Varint).int64(item);
    type(ATTRIBUTE_TYPE.ints);
  }
  return w.finish();
}

function isWeight({ data, dims }: Initializer): boolean {
  return data instanceof Float32Array && dims.length >= 2;
}

function isSame(a: Initializer, b: Initializer): boolean {
  return (
    a.data.length === b.data.length &&
    a.dims.join() === b.dims.join() &&
    (a.data as Float32Array).every((value, i) => value === b.data[i])
  );
}

function halfProto({ name, data, dims }: Initializer): Uint8Array {
  return typedProto(name + HALF_SUFFIX, ONNX_HALF, dims, toHalf(data as Float32Array));
}

function tensorProto({ name, data, dims }: Initializer): Uint8Array {
  return typedProto(name, ONNX_TYPE[dataTypeOf(data)], dims, data);
}

export function typedProto(
  name: string,
  type: number,
  dims: readonly number[],
  data: HostData | Uint16Array,
): Uint8Array {
  const w = new BinaryWriter();
  for (const dim of dims) w.tag(1, WireType.Varint).int64(dim);
  w.tag(2, WireType.Varint).int32(type);
  w.tag(8, WireType.LengthDelimited).string(name);
  w.tag(9, WireType.LengthDelimited).bytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return w.finish();
}

export function valueInfoProto({ name, dtype, dims }: TensorInfo): Uint8Array {
  const w = new BinaryWriter();
  w.tag(1, WireType.LengthDelimited).string(name);
  w.tag(2, WireType.LengthDelimited).fork().tag(1, WireType.LengthDelimited).fork();
  w.tag(1, WireType.Varint).int32(ONNX_TYPE[dtype]);
  w.tag(2, WireType.LengthDelimited).fork();
  for (const dim of dims) {
    w.tag(1, WireType.LengthDelimited).fork();
    if (typeof dim === 'number') w.tag(1, WireType.Varint).int64(dim);
    else w.tag(2, WireType.LengthDelimited).string(dim);
    w.join();
  }
  w.join().join().join();
  return w.finish();
}

/** What {@link readOnnx} finds in a file: enough to describe a model and to take its weights back. */
export interface OnnxContents {
  readonly metadata: Record<string, string>;
  readonly opset: number;
  readonly initializers: HostTensors;
}

/**
 * Reads metadata and named constants of an ONNX file (float32, int32, int64, bool; raw or typed storage; our own
 * half-precision weights, as float32).
 * With `metadata`, the constants are skipped. Tensors that the engine stored in another axis order come back in TensorFlow's order.
 * Throws {@link EngineError} `bad-model` when the bytes are no ONNX model.
 */
export function readOnnx(bytes: Uint8Array, what: 'everything' | 'metadata' = 'everything'): OnnxContents {
  const metadata: Record<string, string> = {};
  const initializers: HostTensors = {};
  let opset = 0;
  let graphs = 0;
  try {
    eachField(bytes, {
      7: (r) => {
        graphs++;
        if (what === 'metadata') {
          r.skip(WireType.LengthDelimited);
          return;
        }
        eachField(r.bytes(), {
          5: (inner) => {
            const tensor = readTensor(inner.bytes());
            if (tensor) initializers[tensor.name] = { data: tensor.data, dims: tensor.dims };
          },
        });
      },
      8: (r) => {
        eachField(r.bytes(), { 2: (inner) => (opset = Math.max(opset, Number(inner.int64()))) });
      },
      14: (r) => {
        let key = '';
        let value = '';
        eachField(r.bytes(), {
          1: (inner) => (key = inner.string()),
          2: (inner) => (value = inner.string()),
        });
        metadata[key] = value;
      },
    });
  } catch (cause) {
    throw new EngineError(
      'bad-model',
      'Expected an ONNX model; the bytes cannot be read as one (damaged or incomplete?).',
      {
        cause,
      },
    );
  }
  if (graphs === 0) throw new EngineError('bad-model', 'Expected an ONNX model; the bytes hold no graph.');
  for (const [name, order] of Object.entries(readLayouts(metadata))) {
    const tensor = initializers[name];
    if (!tensor) continue;
    const back = inverseOrder(order);
    initializers[name] = {
      data: permute(tensor.data, tensor.dims, back),
      dims: back.map((axis) => tensor.dims[axis] ?? 1),
    };
  }
  return { metadata, opset, initializers };
}

/** The named constants (weights) of an ONNX file, in TensorFlow's axis order. */
export function readInitializers(bytes: Uint8Array): HostTensors {
  return readOnnx(bytes).initializers;
}

/** Axis orders by tensor name, from a model's metadata. */
export function readLayouts(metadata: Readonly<Record<string, string>>): Record<string, number[]> {
  const text = metadata[LAYOUT_KEY];
  return text === undefined ? {} : (JSON.parse(text) as Record<string, number[]>);
}

export function eachField(bytes: Uint8Array, handlers: Record<number, (reader: BinaryReader) => void>): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    const handle = handlers[field];
    if (handle) handle(reader);
    else reader.skip(wireType, field);
  }
}

/** A named tensor; undefined for types that the engine does not have. */
export function readTensor(bytes: Uint8Array): { name: string; data: HostData; dims: number[] } | undefined {
  const dims: number[] = [];
  const floats: number[] = [];
  const ints: bigint[] = [];
  let name = '';
  let type = 0;
  let raw: Uint8Array | undefined;
  const reader = new BinaryReader(bytes);
  const repeated = (wireType: WireType, read: () => void): void => {
    if (wireType !== WireType.LengthDelimited) {
      read();
      return;
    }
    const end = reader.uint32() + reader.pos;
    while (reader.pos < end) read();
  };
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) repeated(wireType, () => dims.push(Number(reader.int64())));
    else if (field === 2) type = reader.int32();
    else if (field === 4) repeated(wireType, () => floats.push(reader.float()));
    else if (field === 5 || field === 7) repeated(wireType, () => ints.push(BigInt(reader.int64())));
    else if (field === 8) name = reader.string();
    else if (field === 9) raw = reader.bytes();
    else reader.skip(wireType, field);
  }
  // Not slice(): of a Buffer that is a view of the whole file.
  const aligned = raw && new Uint8Array(raw).buffer;
  switch (type) {
    case ONNX_TYPE.float32:
      return { name, dims, data: aligned ? new Float32Array(aligned) : Float32Array.from(floats) };
    case ONNX_HALF:
      return raw && name.endsWith(HALF_SUFFIX)
        ? { name: name.slice(0, -HALF_SUFFIX.length), dims, data: fromHalf(new Uint16Array(aligned ?? [])) }
        : undefined;
    case ONNX_TYPE.int32:
      return { name, dims, data: aligned ? new Int32Array(aligned) : Int32Array.from(ints, Number) };
    case ONNX_TYPE.int64:
      return { name, dims, data: aligned ? new BigInt64Array(aligned) : BigInt64Array.from(ints) };
    case ONNX_TYPE.bool:
      return { name, dims, data: aligned ? new Uint8Array(aligned) : Uint8Array.from(ints, Number) };
    default:
      return undefined;
  }
}
