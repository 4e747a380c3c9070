import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import type { Setting } from './contender.js';

const RUNS = 5;
const PREFIX = 'profile';
/** What an input that counts steps is fed. */
const STEPS = 10n;

type Shapes = readonly Readonly<Record<string, readonly number[]>>[];

interface TraceEvent {
  readonly cat: string;
  readonly name: string;
  readonly dur: number;
  readonly args?: {
    readonly op_name?: string;
    readonly input_type_shape?: Shapes;
    readonly output_type_shape?: Shapes;
  };
}

/** Where the time of one run goes. */
export interface Profile {
  readonly totalMs: number;
  /** By op type, the largest first. */
  readonly types: readonly Share[];
  /** By op type and shapes, the largest first. */
  readonly nodes: readonly Share[];
}

interface Share {
  readonly name: string;
  readonly ms: number;
  readonly count: number;
}

/** Control flow reports the time of the nodes inside it once more. */
const CONTAINERS = new Set(['Loop', 'If', 'Scan']);

/** ONNX Runtime's own profile of a file that is fed small numbers. */
export async function profile(
  bytes: Uint8Array,
  batchSize: number,
  { device, threads, folder }: Setting,
): Promise<Profile> {
  const session = await ort.InferenceSession.create(bytes, {
    executionProviders: [device],
    intraOpNumThreads: threads,
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    enableProfiling: true,
    profileFilePrefix: join(folder, PREFIX),
  });
  const feeds = Object.fromEntries(
    session.inputMetadata.map((info) => [info.name, made(info, batchSize)] as const),
  );
  for (let i = 0; i < RUNS; i++) await session.run(feeds);
  session.endProfiling();
  await session.release();
  const written =
    (await readdir(folder))
      .filter((name) => name.startsWith(PREFIX))
      .sort()
      .at(-1) ?? '';
  const events = JSON.parse(await readFile(join(folder, written), 'utf8')) as TraceEvent[];
  await rm(join(folder, written));
  return summarise(events);
}

/** The first run allocates memory: the figures are of the others. */
function summarise(events: readonly TraceEvent[]): Profile {
  const starts = events.flatMap(({ name }, at) => (name === 'model_run' ? [at] : []));
  const kernels = events
    .slice((starts[0] ?? 0) + 1)
    .filter(
      ({ cat, name, args }) =>
        cat === 'Node' && name.endsWith('kernel_time') && !CONTAINERS.has(args?.op_name ?? ''),
    );
  const runs = starts.length - 1;
  return {
    totalMs: kernels.reduce((sum, { dur }) => sum + dur, 0) / 1000 / runs,
    types: shares(kernels, runs, ({ args }) => args?.op_name ?? 'unknown'),
    nodes: shares(
      kernels,
      runs,
      ({ args }) =>
        `${args?.op_name ?? 'unknown'} ${shapesOf(args?.input_type_shape)} → ${shapesOf(args?.output_type_shape)}`,
    ),
  };
}

function shares(
  kernels: readonly TraceEvent[],
  runs: number,
  nameOf: (event: TraceEvent) => string,
): Share[] {
  const sums = new Map<string, { ms: number; count: number }>();
  for (const event of kernels) {
    const name = nameOf(event);
    const { ms, count } = sums.get(name) ?? { ms: 0, count: 0 };
    sums.set(name, { ms: ms + event.dur / 1000 / runs, count: count + 1 / runs });
  }
  return [...sums].map(([name, sum]) => ({ name, ...sum })).sort((a, b) => b.ms - a.ms);
}

function shapesOf(shapes: Shapes = []): string {
  return shapes
    .map((shape) =>
      Object.values(shape)
        .map((dims) => `[${dims.join(',')}]`)
        .join(''),
    )
    .join(' ');
}

/** Small positive numbers: variances and counters are among the inputs. */
function made(info: ort.InferenceSession.ValueMetadata, batchSize: number): ort.Tensor {
  if (!info.isTensor) throw new TypeError(`expected a tensor for "${info.name}"`);
  const dims = info.shape.map((dim) => (typeof dim === 'number' ? dim : batchSize));
  const size = dims.reduce((a, b) => a * b, 1);
  if (info.type === 'int64') return new ort.Tensor('int64', new BigInt64Array(size).fill(STEPS), dims);
  return new ort.Tensor(
    'float32',
    Float32Array.from({ length: size }, (_, at) => 0.05 + (at % 7) / 100),
    dims,
  );
}
