/** One of those whose times are compared: ours, or a peer. */
export interface Contender {
  /** `ours`, or the peer's name. */
  readonly name: string;
  /** How it runs: what was found to be its fastest. */
  readonly mode: string;
  /** Versions, libraries and the like, to be printed once. */
  readonly details: Readonly<Record<string, string | number>>;
  /** Number of trained parameters, where it can say. */
  readonly parameters?: number;
  /** Runs the work and returns milliseconds, one a run. */
  run(times: number): Promise<number[]>;
  dispose(): Promise<void>;
}

/** A peer that this machine lacks, or that cannot do the work. */
export interface Missing {
  readonly name: string;
  readonly missing: string;
}

/** What a work needs to know. */
export interface Setting {
  readonly device: 'cpu' | 'webgpu' | 'cuda';
  readonly threads: number;
  /** The interpreter that has PyTorch. */
  readonly python: string;
  /** A folder of films; phantoms where there is none. */
  readonly data: string | undefined;
  /** A scratch folder. */
  readonly folder: string;
}

/** One row of the benchmark. */
export interface Work {
  readonly name: string;
  /** Times are divided by this; 1 unless given. */
  readonly stepsARun?: number;
  /** Floating-point operations of one step, a multiplication and an addition counted as two. */
  readonly flops?: () => number;
  /** Number of trained parameters: the peers' networks have as many. */
  readonly parameters?: number;
  /** By peer: ours ÷ the peer's is to be at most this. */
  readonly goals: Readonly<Record<string, number>>;
  /** An ONNX file of ours to profile, with the batch size to feed it. */
  readonly file?: () => { readonly bytes: Uint8Array; readonly batchSize: number };
  ours(setting: Setting): Promise<Contender>;
  peers(setting: Setting): Promise<readonly (Contender | Missing)[]>;
}

/** Times a function that has no clock of its own. */
export async function timed(times: number, work: () => Promise<unknown>): Promise<number[]> {
  const taken: number[] = [];
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    await work();
    taken.push(performance.now() - start);
  }
  return taken;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? NaN)) / 2;
}
