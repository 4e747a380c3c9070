import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { EngineError } from './errors.js';
import type { Attribute, GraphNode } from './graph.js';
import { eachField, nodeProto, valueInfoProto } from './onnx.js';

/**
 * Changes to ONNX files of other tools, message by message. Everything else is copied byte for byte, so operators,
 * versions and metadata that rxray does not use are unchanged. Field numbers are those of onnx.proto3.
 */

/** Where tensors occur in a message: field → the message in it, or `tensor`. */
type Place = 'tensor' | Readonly<Record<number, () => Place>>;
const tensor = (): Place => 'tensor';
const sparse = (): Place => ({ 1: tensor, 2: tensor });
const attribute = (): Place => ({ 5: tensor, 6: graph, 10: tensor, 11: graph, 22: sparse, 23: sparse });
const node = (): Place => ({ 5: attribute });
const graph = (): Place => ({ 1: node, 5: tensor, 15: sparse });
const initializers = (): Place => ({ 1: () => ({ 5: () => ({ 6: initializers }) }), 5: tensor });
const MODEL: Place = { 7: graph, 25: () => ({ 7: node }) };

/** The position of a tensor's values in another file than the model's own. */
interface ExternalData {
  readonly location: string;
  readonly offset: number;
  /** Undefined: to the end of the file. */
  readonly length: number | undefined;
}

/** The files, relative to the model's folder, that hold weights of the model. Throws `bad-model` for other bytes. */
export function externalFiles(bytes: Uint8Array): string[] {
  const found = new Set<string>();
  readable(() => {
    visit(bytes, MODEL, (each) => {
      const data = externalData(each);
      if (data !== undefined) found.add(data.location);
    });
  });
  return [...found];
}

/**
 * The model with the weights of all its external files in it.
 *
 * @param files Bytes by the names that {@link externalFiles} gives. Throws `bad-model` where one is missing or too short.
 */
export function embedExternalFiles(bytes: Uint8Array, files: ReadonlyMap<string, Uint8Array>): Uint8Array {
  return readable(() =>
    edit(bytes, MODEL, (each) => {
      const data = externalData(each);
      return data === undefined ? each : withValues(each, valuesOf(data, files));
    }),
  );
}

/** The description of an input or output in an ONNX file; `dtype` as named by ONNX Runtime. */
export interface ValueInfo {
  readonly name: string;
  readonly dtype: string;
  readonly dims: readonly (number | string)[];
}

/** TensorProto.DataType of the types that {@link adaptClassifier} converts. */
const CONVERTED: Readonly<Record<string, number>> = { float16: 10, float64: 11, uint8: 2 };
const FLOAT32 = 1;

/** Whether {@link adaptClassifier} can make an input or output of that type float32. */
export function isConvertible(dtype: string): boolean {
  return dtype === 'float32' || CONVERTED[dtype] !== undefined;
}

/**
 * The model with float32 images as its input and only the outputs named, each as float32 [N,K]: half and double
 * precision are cast, bytes rounded, axes of length 1 behind the classes ([N,K,1,1]) left out. `film` is what one film gives at
 * each output: its dimensions with the batch, as the model returned them.
 */
export function adaptClassifier(
  bytes: Uint8Array,
  input: ValueInfo,
  outputs: readonly (ValueInfo & { readonly film?: readonly number[] })[],
): Uint8Array {
  const before: GraphNode[] = [];
  const after: GraphNode[] = [];
  const source = { name: input.name, dtype: 'float32', dims: input.dims } as const;
  const code = CONVERTED[input.dtype];
  const fed = code === undefined ? source : { ...source, name: `${input.name}/float32` };
  if (code !== undefined) {
    let value: string = fed.name;
    if (input.dtype === 'uint8') {
      before.push(operation('Round', value, `${input.name}/rounded`));
      value = `${input.name}/rounded`;
    }
    before.push(operation('Cast', value, input.name, { to: code }));
  }
  const results = outputs.map(({ name, dtype, dims, film }) => {
    let value = name;
    const add = (type: string, attributes: GraphNode['attributes']): void => {
      const next = `${value}/${type.toLowerCase()}`;
      after.push(operation(type, value, next, attributes));
      value = next;
    };
    if (CONVERTED[dtype] !== undefined) add('Cast', { to: FLOAT32 });
    if (film === undefined || film.length === 2) return { name: value, dims };
    // A vector is the classes of the one film, or the one class of each film.
    const vector = film.length === 1 && film[0] !== 1;
    add('Flatten', { axis: vector ? 0 : 1 });
    const classes = film.slice(vector ? 0 : 1).reduce((product, dim) => product * dim, 1);
    return { name: value, dims: [vector ? 1 : (dims[0] ?? 1), classes] };
  });
  const inGraph = (proto: Uint8Array): Uint8Array => {
    const w = new BinaryWriter();
    for (const each of before) w.tag(1, WireType.LengthDelimited).bytes(nodeProto(each));
    eachRaw(proto, (field, raw, content) => {
      const replaced =
        field === 12 || (field === 11 && content !== undefined && nameOf(content) === input.name);
      if (!replaced) w.raw(raw);
    });
    for (const each of after) w.tag(1, WireType.LengthDelimited).bytes(nodeProto(each));
    w.tag(11, WireType.LengthDelimited).bytes(valueInfoProto({ ...fed, dims: named(fed.dims) }));
    for (const { name, dims } of results) {
      w.tag(12, WireType.LengthDelimited).bytes(
        valueInfoProto({ name, dtype: 'float32', dims: named(dims) }),
      );
    }
    return w.finish();
  };
  return readable(() => editFields(bytes, (field, content) => (field === 7 ? inGraph(content) : content)));
}

/**
 * The types of the operators between the last layer (a matrix product, convolution or pooling) and an output, which
 * tell what its numbers are: `Softmax`, `Sigmoid`, …
 */
export function lastOperators(bytes: Uint8Array, output: string): string[] {
  const producers = new Map<string, { readonly type: string; readonly inputs: readonly string[] }>();
  readable(() => {
    eachField(bytes, {
      7: (r) => {
        eachField(r.bytes(), {
          1: (inner) => {
            const inputs: string[] = [];
            const outputs: string[] = [];
            let type = '';
            eachField(inner.bytes(), {
              1: (f) => inputs.push(f.string()),
              2: (f) => outputs.push(f.string()),
              4: (f) => (type = f.string()),
            });
            for (const name of outputs) producers.set(name, { type, inputs });
          },
        });
      },
    });
  });
  const found = new Set<string>();
  const seen = new Set<string>();
  const next = [output];
  for (let value = next.pop(); value !== undefined; value = next.pop()) {
    const producer = producers.get(value);
    if (producer === undefined || seen.has(value)) continue;
    seen.add(value);
    if (/Gemm|MatMul|Conv|Pool|^ReduceMean$|^Einsum$/.test(producer.type)) continue;
    found.add(producer.type);
    next.push(...producer.inputs);
  }
  return [...found];
}

/** The model with some nodes of its main graph replaced by others; those for which `change` returns undefined stay. */
export function replaceNodes(
  bytes: Uint8Array,
  change: (node: GraphNode) => readonly GraphNode[] | undefined,
): Uint8Array {
  const inGraph = (proto: Uint8Array): Uint8Array => {
    const w = new BinaryWriter();
    eachRaw(proto, (field, raw, content) => {
      const replacement = field === 1 && content !== undefined ? change(readNode(content)) : undefined;
      if (replacement === undefined) w.raw(raw);
      else for (const each of replacement) w.tag(1, WireType.LengthDelimited).bytes(nodeProto(each));
    });
    return w.finish();
  };
  return readable(() => editFields(bytes, (field, content) => (field === 7 ? inGraph(content) : content)));
}

/** The model with the initializers of its graphs, as TensorProto messages, changed; those that `change` returns as they are, are copied. */
export function replaceInitializers(
  bytes: Uint8Array,
  change: (tensor: Uint8Array) => Uint8Array,
): Uint8Array {
  return readable(() => edit(bytes, { 7: initializers }, change));
}

/** A node, with those of its attributes that are single numbers. */
export function readNode(proto: Uint8Array): GraphNode {
  const inputs: string[] = [];
  const outputs: string[] = [];
  const attributes: Record<string, Attribute> = {};
  let type = '';
  eachField(proto, {
    1: (r) => inputs.push(r.string()),
    2: (r) => outputs.push(r.string()),
    4: (r) => (type = r.string()),
    5: (r) => {
      let name = '';
      let value: Attribute | undefined;
      eachField(r.bytes(), {
        1: (inner) => (name = inner.string()),
        2: (inner) => (value = { float: inner.float() }),
        3: (inner) => (value = Number(inner.int64())),
      });
      if (value !== undefined) attributes[name] = value;
    },
  });
  return { type, inputs, outputs, attributes };
}

/** The version of the operators that the model uses. */
export function opsetOf(bytes: Uint8Array): number {
  let opset = 0;
  readable(() => {
    eachField(bytes, {
      8: (r) => {
        let domain = '';
        let version = 0;
        eachField(r.bytes(), {
          1: (inner) => (domain = inner.string()),
          2: (inner) => (version = Number(inner.int64())),
        });
        if (domain === '' || domain === 'ai.onnx') opset = version;
      },
    });
  });
  return opset;
}

export function operation(
  type: string,
  input: string,
  output: string,
  attributes: GraphNode['attributes'] = {},
): GraphNode {
  return { type, inputs: [input], outputs: [output], attributes };
}

/** ONNX Runtime gives '' for a dimension without a name. */
function named(dims: readonly (number | string)[]): (number | string)[] {
  return dims.map((dim, axis) => (dim === '' || (typeof dim === 'number' && dim < 0) ? `dim${axis}` : dim));
}

function nameOf(valueInfo: Uint8Array): string {
  let name = '';
  eachField(valueInfo, { 1: (r) => (name = r.string()) });
  return name;
}

/** Undefined where the values are in the model's own file. */
function externalData(proto: Uint8Array): ExternalData | undefined {
  const entries = new Map<string, string>();
  let external = false as boolean;
  eachField(proto, {
    13: (r) => {
      let [key, value] = ['', ''];
      eachField(r.bytes(), { 1: (f) => (key = f.string()), 2: (f) => (value = f.string()) });
      entries.set(key, value);
    },
    14: (r) => (external = r.int32() === 1),
  });
  if (!external) return undefined;
  const length = entries.get('length');
  return {
    location: entries.get('location') ?? '',
    offset: Number(entries.get('offset') ?? 0),
    length: length === undefined ? undefined : Number(length),
  };
}

function valuesOf(
  { location, offset, length }: ExternalData,
  files: ReadonlyMap<string, Uint8Array>,
): Uint8Array {
  const file = files.get(location);
  if (file === undefined)
    throw new EngineError('bad-model', `"${location}", which holds weights, is missing`);
  const end = length === undefined ? file.length : offset + length;
  if (!(offset >= 0 && end >= offset && end <= file.length)) {
    throw new EngineError(
      'bad-model',
      `"${location}" has ${file.length} bytes, weights in it end at ${end}: it is cut short, or of another model`,
    );
  }
  return file.subarray(offset, end);
}

function withValues(proto: Uint8Array, values: Uint8Array): Uint8Array {
  const w = new BinaryWriter();
  eachRaw(proto, (field, raw) => {
    if (![9, 13, 14].includes(field)) w.raw(raw);
  });
  return w.tag(9, WireType.LengthDelimited).bytes(values).finish();
}

function visit(bytes: Uint8Array, place: Place, found: (tensor: Uint8Array) => void): void {
  if (place === 'tensor') {
    found(bytes);
    return;
  }
  const handlers = Object.entries(place).map(([field, below]) => [
    field,
    (reader: BinaryReader) => {
      visit(reader.bytes(), below(), found);
    },
  ]);
  eachField(bytes, Object.fromEntries(handlers) as Record<number, (reader: BinaryReader) => void>);
}

function edit(bytes: Uint8Array, place: Place, change: (tensor: Uint8Array) => Uint8Array): Uint8Array {
  if (place === 'tensor') return change(bytes);
  return editFields(bytes, (field, content) => {
    const below = place[field];
    return below === undefined ? content : edit(content, below(), change);
  });
}

/** The message with some of its length-delimited fields changed; those that `change` returns as they are, are copied. */
export function editFields(
  bytes: Uint8Array,
  change: (field: number, content: Uint8Array) => Uint8Array,
): Uint8Array {
  const w = new BinaryWriter();
  eachRaw(bytes, (field, raw, content) => {
    const changed = content === undefined ? undefined : change(field, content);
    if (changed === undefined || changed === content) w.raw(raw);
    else w.tag(field, WireType.LengthDelimited).bytes(changed);
  });
  return w.finish();
}

/** Each field with its tag, and the content of those that are length-delimited. */
export function eachRaw(
  bytes: Uint8Array,
  handle: (field: number, raw: Uint8Array, content: Uint8Array | undefined) => void,
): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const [field, wireType] = reader.tag();
    let content: Uint8Array | undefined;
    if (wireType === WireType.LengthDelimited) content = reader.bytes();
    else reader.skip(wireType, field);
    handle(field, bytes.subarray(start, reader.pos), content);
  }
}

export function readable<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof EngineError) throw cause;
    throw new EngineError(
      'bad-model',
      'Expected an ONNX model; the bytes cannot be read as one (damaged or incomplete?).',
      { cause },
    );
  }
}
