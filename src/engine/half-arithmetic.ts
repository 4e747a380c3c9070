import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { EngineError } from './errors.js';
import { toHalf } from './half.js';
import { eachRaw, editFields, operation, readable, readNode } from './onnx-edit.js';
import {
  attributeProto,
  eachField,
  nodeProto,
  ONNX_HALF,
  ONNX_TYPE,
  readTensor,
  typedProto,
} from './onnx.js';

const FLOAT = ONNX_TYPE.float32;
/** AttributeProto.AttributeType. */
const TENSOR_ATTRIBUTE = 4;
/** Ends the name of a value in half precision where the model's own name is a float32 input or output. */
const SUFFIX = '/half';

/**
 * The model with its arithmetic in half precision: float32 weights, constants and casts become float16. Inputs and outputs
 * stay float32, converted at the model's edges. The scales of `Resize` stay float32, as ONNX requires.
 * Values beyond ±65504 become infinite. Throws `bad-model` for a model with sub-graphs (loops, conditions).
 */
export function halfArithmetic(bytes: Uint8Array): Uint8Array {
  return readable(() => editFields(bytes, (field, content) => (field === 7 ? inGraph(content) : content)));
}

function inGraph(proto: Uint8Array): Uint8Array {
  const inputs = floatsAt(proto, 11);
  const outputs = floatsAt(proto, 12);
  const single = scalesOf(proto);
  const renamed = (name: string): string => {
    return inputs.has(name) || outputs.has(name) ? name + SUFFIX : name;
  };
  const w = new BinaryWriter();
  const cast = (from: string, to: string, type: number): void => {
    w.tag(1, WireType.LengthDelimited).bytes(nodeProto(operation('Cast', from, to, { to: type })));
  };
  for (const name of inputs) cast(name, name + SUFFIX, ONNX_HALF);
  eachRaw(proto, (field, raw, content) => {
    // The types of values in between (field 13) are inferred again.
    if (field === 13) return;
    if (content === undefined || (field !== 1 && field !== 5)) w.raw(raw);
    else {
      const changed = field === 1 ? inNode(content, renamed, single) : inInitializer(content, single);
      w.tag(field, WireType.LengthDelimited).bytes(changed);
    }
  });
  for (const name of outputs) cast(name + SUFFIX, name, FLOAT);
  return w.finish();
}

/** Names of the graph's float32 inputs or outputs. */
function floatsAt(proto: Uint8Array, place: 11 | 12): Set<string> {
  const names = new Set<string>();
  eachField(proto, {
    [place]: (r) => {
      let name = '';
      let type = 0;
      eachField(r.bytes(), {
        1: (info) => (name = info.string()),
        2: (info) => {
          eachField(info.bytes(), {
            1: (tensor) => {
              eachField(tensor.bytes(), { 1: (element) => (type = element.int32()) });
            },
          });
        },
      });
      if (type === FLOAT) names.add(name);
    },
  });
  return names;
}

/** Inputs of `Resize` behind the image: its region and scales. */
function scalesOf(proto: Uint8Array): Set<string> {
  const names = new Set<string>();
  eachField(proto, {
    1: (r) => {
      const { type, inputs } = readNode(r.bytes());
      if (type === 'Resize') for (const name of inputs.slice(1)) names.add(name);
    },
  });
  return names;
}

function inNode(
  proto: Uint8Array,
  renamed: (name: string) => string,
  single: ReadonlySet<string>,
): Uint8Array {
  const { type, outputs } = readNode(proto);
  if (outputs.some((name) => single.has(name))) return proto;
  const w = new BinaryWriter();
  eachRaw(proto, (field, raw, content) => {
    if (content === undefined) w.raw(raw);
    // Inputs, outputs, and the node's own name, which is its first output's in our files and must be unique.
    else if (field <= 3) {
      w.tag(field, WireType.LengthDelimited).string(renamed(new TextDecoder().decode(content)));
    } else if (field === 5) w.tag(field, WireType.LengthDelimited).bytes(inAttribute(content, type));
    else w.raw(raw);
  });
  return w.finish();
}

function inInitializer(proto: Uint8Array, single: ReadonlySet<string>): Uint8Array {
  let name = '';
  eachField(proto, { 8: (r) => (name = r.string()) });
  return single.has(name) ? proto : inTensor(proto);
}

/** The type that `Cast` gives, and the value of a `Constant`. */
function inAttribute(proto: Uint8Array, type: string): Uint8Array {
  let name = '';
  let float = 0;
  let target = 0;
  eachField(proto, {
    1: (r) => (name = r.string()),
    2: (r) => (float = r.float()),
    3: (r) => (target = Number(r.int64())),
    6: () => {
      throw new EngineError(
        'bad-model',
        `${type}, an operator with a sub-graph, cannot run in half precision`,
      );
    },
  });
  if (type === 'Cast' && name === 'to' && target === FLOAT) return attributeProto('to', ONNX_HALF);
  if (type === 'Constant' && name === 'value_float') {
    const value = typedProto('', ONNX_HALF, [], toHalf(Float32Array.of(float)));
    const w = new BinaryWriter().tag(1, WireType.LengthDelimited).string('value');
    w.tag(5, WireType.LengthDelimited).bytes(value);
    return w.tag(20, WireType.Varint).int32(TENSOR_ATTRIBUTE).finish();
  }
  return editFields(proto, (field, content) => (field === 5 ? inTensor(content) : content));
}

/** A float32 tensor in half precision; others as they are. */
function inTensor(proto: Uint8Array): Uint8Array {
  let type = 0;
  eachField(proto, { 2: (r) => (type = r.int32()) });
  const tensor = type === FLOAT ? readTensor(proto) : undefined;
  if (tensor === undefined) return proto;
  return typedProto(tensor.name, ONNX_HALF, tensor.dims, toHalf(tensor.data as Float32Array));
}
