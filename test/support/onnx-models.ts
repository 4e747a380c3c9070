import onnxProto from 'onnx-proto';

const { onnx } = onnxProto;
const TYPE = { float32: 1, uint8: 2, float16: 10, float64: 11 } as const;

export interface TinyModel {
  /** Labels; the score of label k is `weights[k]` × the mean sample + `bias[k]`. */
  readonly weights: readonly number[];
  readonly bias?: readonly number[];
  readonly channels?: 1 | 3;
  readonly size?: number;
  readonly batch?: 'N' | 1;
  readonly input?: keyof typeof TYPE;
  readonly output?: keyof typeof TYPE;
  /** Operators behind the scores, each with one input and one output. */
  readonly then?: readonly string[];
  /** Shape of the scores of a film: [N,K], [N,K,1,1], [K] of the one film. */
  readonly shape?: 'NK' | 'NK11' | 'K';
  /** Gives the mean of each channel as its first output. */
  readonly features?: boolean;
  /** The film is scaled by its own minimum and maximum, which gives 0 ÷ 0 for a blank one. */
  readonly minMax?: boolean;
  /** A batch with a mean above this number gets no answer: the model loops for ever. */
  readonly endlessAbove?: number;
  /** The file in which the weights lie; they begin at byte 16. */
  readonly external?: string;
}

/** An ONNX classifier as other tools export them, N × C × H × W, and the bytes of its external weights. */
export function tinyModel({
  weights,
  bias = weights.map(() => 0),
  channels = 1,
  size = 32,
  batch = 'N',
  input = 'float32',
  output = 'float32',
  then = [],
  shape = 'NK',
  features = false,
  minMax = false,
  endlessAbove,
  external,
}: TinyModel): { bytes: Uint8Array; weights: Uint8Array } {
  const classes = weights.length;
  const matrix = Float32Array.from({ length: channels * classes }, (_, i) => {
    return (weights[i % classes] ?? 0) / channels;
  });
  const values = Buffer.concat([Buffer.alloc(16, 0xff), Buffer.from(matrix.buffer)]);
  const nodes: object[] = [];
  let last = 'film';
  let count = 0;
  const add = (opType: string, more: string[] = [], attribute: object[] = []): void => {
    const next = `v${count++}`;
    nodes.push({ opType, input: [last, ...more], output: [next], attribute });
    last = next;
  };
  const ints = (name: string, list: number[]): object => ({ name, ints: list, type: 7 });
  const int = (name: string, value: number): object => ({ name, i: value, type: 2 });
  if (input !== 'float32') add('Cast', [], [int('to', TYPE.float32)]);
  if (minMax) {
    const scaled = last;
    nodes.push(
      { opType: 'ReduceMin', input: [scaled], output: ['low'], attribute: [ints('axes', [2, 3])] },
      { opType: 'ReduceMax', input: [scaled], output: ['high'], attribute: [ints('axes', [2, 3])] },
      { opType: 'Sub', input: [scaled, 'low'], output: ['above'] },
      { opType: 'Sub', input: ['high', 'low'], output: ['span'] },
      { opType: 'Div', input: ['above', 'span'], output: ['relative'] },
    );
    last = 'relative';
  }
  add('ReduceMean', [], [ints('axes', [2, 3]), int('keepdims', 0)]);
  const means = last;
  if (endlessAbove !== undefined) {
    nodes.push(...endlessNodes(means, 'looped'));
    last = 'looped';
  }
  add('MatMul', ['W']);
  add('Add', ['b']);
  for (const type of then) add(type, [], type.endsWith('oftmax') ? [int('axis', 1)] : []);
  if (shape === 'NK11') add('Unsqueeze', ['axes']);
  if (shape === 'K') add('Reshape', ['flat']);
  if (output !== 'float32') add('Cast', [], [int('to', TYPE[output])]);
  nodes.push({ opType: 'Identity', input: [last], output: ['scores'] });
  if (features) nodes.push({ opType: 'Identity', input: [means], output: ['features'] });
  const info = (name: string, type: keyof typeof TYPE, dims: (number | 'N')[]): object => ({
    name,
    type: {
      tensorType: {
        elemType: TYPE[type],
        shape: { dim: dims.map((dim) => (dim === 'N' ? { dimParam: 'N' } : { dimValue: dim })) },
      },
    },
  });
  const int64 = (name: string, list: number[]): object => ({
    ...{ name, dataType: 7, dims: [list.length] },
    rawData: Buffer.from(BigInt64Array.from(list, BigInt).buffer),
  });
  const scores = { NK: [batch, classes], NK11: [batch, classes, 1, 1], K: [classes] }[shape];
  const model = {
    irVersion: 8,
    opsetImport: [{ domain: '', version: 13 }],
    graph: {
      name: 'g',
      node: nodes,
      input: [info('film', input, [batch, channels, size, size])],
      output: [
        ...(features ? [info('features', 'float32', [batch, channels])] : []),
        info('scores', output, scores as (number | 'N')[]),
      ],
      initializer: [
        {
          ...{ name: 'W', dataType: 1, dims: [channels, classes] },
          ...(external === undefined
            ? { rawData: values.subarray(16) }
            : {
                dataLocation: 1,
                externalData: [
                  { key: 'location', value: external },
                  { key: 'offset', value: '16' },
                  { key: 'length', value: String(matrix.byteLength) },
                ],
              }),
        },
        { name: 'b', dataType: 1, dims: [classes], rawData: Buffer.from(Float32Array.from(bias).buffer) },
        {
          name: 'limit',
          dataType: 1,
          dims: [],
          rawData: Buffer.from(Float32Array.of(endlessAbove ?? 0).buffer),
        },
        int64('axes', [2, 3]),
        int64('flat', [classes]),
      ],
    },
  };
  return { bytes: onnx.ModelProto.encode(onnx.ModelProto.fromObject(model)).finish(), weights: values };
}

/** Nodes that pass `from` on as `to`, and loop for ever where its largest value is above the scalar `limit`. */
function endlessNodes(from: string, to: string): object[] {
  const scalar = (name: string, elemType: number): object => ({
    ...{ name, type: { tensorType: { elemType, shape: { dim: [] } } } },
  });
  const body = {
    name: 'body',
    node: [
      { opType: 'Identity', input: ['goesOn'], output: ['goesOnAgain'] },
      { opType: 'Identity', input: ['carried'], output: ['carriedOn'] },
    ],
    input: [
      scalar('iteration', 7),
      scalar('goesOn', 9),
      { name: 'carried', type: { tensorType: { elemType: 1 } } },
    ],
    output: [scalar('goesOnAgain', 9), { name: 'carriedOn', type: { tensorType: { elemType: 1 } } }],
  };
  const keepdims = { name: 'keepdims', i: 0, type: 2 };
  return [
    { opType: 'ReduceMax', input: [from], output: ['highest'], attribute: [keepdims] },
    { opType: 'Greater', input: ['highest', 'limit'], output: ['endless'] },
    {
      opType: 'Loop',
      input: ['', 'endless', from],
      output: [to],
      attribute: [{ name: 'body', g: body, type: 5 }],
    },
  ];
}

/** A segmenter (N × size × size × 1) whose mask is its film, and which loops for ever on a film with a sample above `endlessAbove`. */
export function endlessSegmenter(size: number, endlessAbove: number): Uint8Array {
  const info = (name: string): object => ({
    name,
    type: {
      tensorType: {
        elemType: TYPE.float32,
        shape: { dim: [{ dimParam: 'N' }, { dimValue: size }, { dimValue: size }, { dimValue: 1 }] },
      },
    },
  });
  const rawData = Buffer.from(Float32Array.of(endlessAbove).buffer);
  const model = {
    irVersion: 8,
    opsetImport: [{ domain: '', version: 13 }],
    graph: {
      name: 'g',
      node: endlessNodes('images', 'probabilities'),
      input: [info('images')],
      output: [info('probabilities')],
      initializer: [{ name: 'limit', dataType: 1, dims: [], rawData }],
    },
  };
  return onnx.ModelProto.encode(onnx.ModelProto.fromObject(model)).finish();
}
