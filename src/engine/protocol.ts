import type { TensorInfo } from './graph.js';
import type { HostTensors } from './host-tensor.js';
import type { EngineErrorCode } from './errors.js';

/** Where a session may run. */
export type Device = 'cpu' | 'webgpu' | 'cuda';

/** Of the arithmetic on a GPU. */
export type Precision = 'single' | 'half';

/** A request of the main thread to the engine's worker. */
export type Request =
  | {
      readonly type: 'load';
      readonly session: number;
      readonly name: string;
      readonly model: Uint8Array | string;
      readonly device: Device;
      readonly threads: number;
      readonly spinning: boolean;
      readonly precision: Precision;
      readonly state: number | undefined;
    }
  | { readonly type: 'run' | 'step'; readonly session: number; readonly feeds: HostTensors }
  | { readonly type: 'release'; readonly session: number }
  | { readonly type: 'setState'; readonly state: number; readonly tensors: HostTensors }
  | { readonly type: 'getState'; readonly state: number; readonly names: readonly string[] | undefined }
  | { readonly type: 'releaseState'; readonly state: number };

/** The description of a loaded model. */
export interface SessionDescription {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** A request with the number of its response. */
export interface Envelope {
  readonly id: number;
  readonly request: Request;
}

/** The worker's response. */
export type Reply =
  | {
      readonly id: number;
      readonly ok: true;
      readonly description?: SessionDescription;
      readonly tensors?: HostTensors;
    }
  | { readonly id: number; readonly ok: false; readonly code: EngineErrorCode; readonly message: string };
