import { readFile } from 'node:fs/promises';
import { parentPort } from 'node:worker_threads';
import * as ort from 'onnxruntime-node';
import { EngineError } from './errors.js';
import type { TensorInfo } from './graph.js';
import { halfArithmetic } from './half-arithmetic.js';
import {
  dataTypeOf,
  inverseOrder,
  permute,
  type HostData,
  type HostTensor,
  type HostTensors,
} from './host-tensor.js';
import { pick, sameOrder, identityOrder, type AxisOrder } from './layout.js';
import { externalFiles } from './onnx-edit.js';
import { readLayouts, readOnnx } from './onnx.js';
import { plainBatchNorm } from './plain-batch-norm.js';
import type { Device, Envelope, Reply, Request, SessionDescription } from './protocol.js';
import { singleWeights } from './single-weights.js';
import { NEXT } from './state-names.js';

/** A tensor that stays in the worker. `spare` takes the next value while `tensor` is still being read. */
interface Resident {
  tensor: ort.Tensor;
  spare: ort.Tensor | undefined;
  order: AxisOrder;
}

type State = Map<string, Resident>;

interface Loaded {
  readonly name: string;
  readonly session: ort.InferenceSession;
  readonly layouts: Readonly<Record<string, AxisOrder>>;
  readonly description: SessionDescription;
  readonly stateId: number | undefined;
}

const sessions = new Map<number, Loaded>();
const states = new Map<number, State>();

async function answer(
  request: Request,
): Promise<{ description?: SessionDescription; tensors?: HostTensors }> {
  switch (request.type) {
    case 'load':
      return { description: await load(request) };
    case 'run':
      return { tensors: await run(sessionOf(request.session), request.feeds) };
    case 'step':
      return { tensors: await step(sessionOf(request.session), request.feeds) };
    case 'release': {
      const loaded = sessions.get(request.session);
      sessions.delete(request.session);
      await loaded?.session.release();
      return {};
    }
    case 'setState':
      for (const [name, tensor] of Object.entries(request.tensors)) {
        stateOf(request.state).set(name, {
          tensor: toOrt(tensor.data, tensor.dims),
          spare: undefined,
          order: identityOrder(tensor.dims.length),
        });
      }
      return {};
    case 'getState':
      return { tensors: readState(stateOf(request.state), request.names) };
    case 'releaseState':
      states.delete(request.state);
      return {};
  }
}

async function load(request: Extract<Request, { type: 'load' }>): Promise<SessionDescription> {
  const { model, name, device, threads, spinning, precision } = request;
  let metadata: Record<string, string>;
  let session: ort.InferenceSession;
  try {
    const bytes = typeof model === 'string' ? await readFile(model) : model;
    metadata = readOnnx(bytes, 'metadata').metadata;
    const isHalf = precision === 'half' && device !== 'cpu';
    // Of bytes, ONNX Runtime would look for them in the working directory, where a file of another model may have that name.
    const [elsewhere] = externalFiles(bytes);
    if (elsewhere !== undefined && (typeof model !== 'string' || isHalf)) {
      throw new Error(`its weights are in another file, "${elsewhere}"; \`rxray import\` puts them into one`);
    }
    const options: ort.InferenceSession.SessionOptions = {
      executionProviders: [device],
      intraOpNumThreads: threads,
      extra: { session: { intra_op: { allow_spinning: spinning ? '1' : '0' } } },
      graphOptimizationLevel: 'all',
      // It would keep one block for all values of a run, and another for each other number of films.
      enableMemPattern: false,
      logSeverityLevel: 3,
    };
    const asItIs = device === 'cpu' || elsewhere !== undefined;
    session =
      typeof model === 'string' && asItIs
        ? await ort.InferenceSession.create(model, options)
        : await ort.InferenceSession.create(forDevice(bytes, device, isHalf), options);
  } catch (cause) {
    throw new EngineError(
      'bad-model',
      `Expected an ONNX model in "${name}"; it could not be loaded: ${textOf(cause)}`,
    );
  }
  const layouts = readLayouts(metadata);
  const description = {
    inputs: session.inputMetadata.map((info) => describe(info, layouts)),
    outputs: session.outputMetadata.map((info) => describe(info, {})),
    metadata,
  };
  sessions.set(request.session, { name, session, layouts, description, stateId: request.state });
  return description;
}

/** The model in operators and a precision that the device has. */
function forDevice(model: Uint8Array, device: Device, isHalf: boolean): Uint8Array {
  const known = device === 'webgpu' ? plainBatchNorm(singleWeights(model)) : model;
  return isHalf ? halfArithmetic(known) : known;
}

function describe(
  info: ort.InferenceSession.ValueMetadata,
  layouts: Readonly<Record<string, AxisOrder>>,
): TensorInfo {
  if (!info.isTensor) throw new EngineError('bad-model', `Expected tensors only; "${info.name}" is none.`);
  const order = layouts[info.name];
  const dims = order ? inverseOrder(order).map((axis) => info.shape[axis] ?? '') : [...info.shape];
  return { name: info.name, dtype: info.type as TensorInfo['dtype'], dims };
}

async function run({ name, session, layouts }: Loaded, feeds: HostTensors): Promise<HostTensors> {
  const inputs = Object.fromEntries(
    Object.entries(feeds).map(([key, tensor]) => [key, stored(tensor, layouts[key])]),
  );
  return toHost(await execute(name, () => session.run(inputs)));
}

/** One step: state inputs come from the store, `next/…` outputs go back into it, the rest is returned. */
async function step(loaded: Loaded, feeds: HostTensors): Promise<HostTensors> {
  const { name, session, layouts, stateId } = loaded;
  const state = stateOf(stateId ?? -1);
  const inputs: Record<string, ort.Tensor> = {};
  for (const key of session.inputNames) {
    const feed = feeds[key];
    inputs[key] = feed ? stored(feed, layouts[key]) : residentTensor(state, key, layouts[key], name);
  }
  const fetches: Record<string, ort.Tensor | null> = {};
  for (const key of session.outputNames) fetches[key] = spareOf(state, key);
  const results = await execute(name, () => session.run(inputs, fetches));
  const small: Record<string, ort.Tensor> = {};
  for (const [key, tensor] of Object.entries(results)) {
    if (key.startsWith(NEXT)) keep(state, key.slice(NEXT.length), tensor, layouts);
    else small[key] = tensor;
  }
  return toHost(small);
}

function residentTensor(state: State, key: string, order: AxisOrder | undefined, model: string): ort.Tensor {
  const resident = state.get(key);
  if (!resident) {
    throw new EngineError(
      'missing-state',
      `The model "${model}" needs "${key}": neither fed nor in the state store.`,
    );
  }
  const wanted = order ?? identityOrder(resident.order.length);
  if (!sameOrder(resident.order, wanted)) {
    resident.tensor = reordered(resident, wanted);
    resident.spare = undefined;
    resident.order = wanted;
  }
  return resident.tensor;
}

function spareOf(state: State, key: string): ort.Tensor | null {
  if (!key.startsWith(NEXT)) return null;
  return state.get(key.slice(NEXT.length))?.spare ?? null;
}

function keep(
  state: State,
  name: string,
  tensor: ort.Tensor,
  layouts: Readonly<Record<string, AxisOrder>>,
): void {
  const order = layouts[name] ?? identityOrder(tensor.dims.length);
  const resident = state.get(name);
  if (!resident) {
    state.set(name, { tensor, spare: undefined, order });
    return;
  }
  resident.spare = resident.tensor;
  resident.tensor = tensor;
  resident.order = order;
}

function readState(state: State, names: readonly string[] | undefined): HostTensors {
  const result: HostTensors = {};
  for (const name of names ?? state.keys()) {
    const resident = state.get(name);
    if (!resident) throw new EngineError('missing-state', `The state store holds no "${name}".`);
    const { tensor } = isLogical(resident)
      ? resident
      : { tensor: reordered(resident, identityOrder(resident.order.length)) };
    result[name] = { data: (tensor.data as HostData).slice(), dims: tensor.dims };
  }
  return result;
}

function isLogical({ order }: Resident): boolean {
  return sameOrder(order, identityOrder(order.length));
}

function reordered({ tensor, order }: Resident, wanted: AxisOrder): ort.Tensor {
  const move = wanted.map((axis) => order.indexOf(axis));
  return toOrt(permute(tensor.data as HostData, tensor.dims, move), pick(tensor.dims, move));
}

function stored({ data, dims }: HostTensor, order: AxisOrder | undefined): ort.Tensor {
  return order ? toOrt(permute(data, dims, order), pick(dims, order)) : toOrt(data, dims);
}

function toOrt(data: HostData, dims: readonly number[]): ort.Tensor {
  return new ort.Tensor(dataTypeOf(data), data, dims);
}

function toHost(results: Readonly<Record<string, ort.Tensor>>): HostTensors {
  return Object.fromEntries(
    Object.entries(results).map(([name, { data, dims }]) => [name, { data: data as HostData, dims }]),
  );
}

async function execute<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw new EngineError('run-failed', `The model "${name}" failed: ${textOf(cause)}`);
  }
}

function sessionOf(id: number): Loaded {
  const loaded = sessions.get(id);
  if (loaded) return loaded;
  throw new EngineError('run-failed', 'The session has been disposed.');
}

function stateOf(id: number): State {
  let state = states.get(id);
  if (!state) states.set(id, (state = new Map<string, Resident>()));
  return state;
}

function textOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

const port = parentPort;
if (!port) throw new Error('src/engine/worker runs as a worker thread only.');

port.on('message', ({ id, request }: Envelope) => {
  void answer(request)
    .then((result): Reply => ({ id, ok: true, ...result }))
    .catch((error: unknown): Reply => ({
      id,
      ok: false,
      code: error instanceof EngineError ? error.code : 'run-failed',
      message: textOf(error),
    }))
    .then((reply) => {
      const tensors = reply.ok ? Object.values(reply.tensors ?? {}) : [];
      port.postMessage(
        reply,
        tensors.map(({ data }) => data.buffer as ArrayBuffer),
      );
    });
});
