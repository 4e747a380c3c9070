/** What the running process answers: `docs/http-api.md` describes the interface. */

export interface Classification {
  readonly kind: 'classification';
  readonly label: string;
  readonly probability: number;
  readonly probabilities: Readonly<Record<string, number>>;
}

export interface Anomaly {
  readonly kind: 'anomaly';
  readonly anomalyScore: number;
  readonly percentile: number | null;
}

export type Result = Classification | Anomaly | { readonly kind: string };

export interface Row {
  readonly id: string;
  readonly source: string;
  readonly file: string;
  readonly outcome: 'done' | 'failed';
  readonly receivedAt: string;
  readonly settledAt: string;
  readonly meta: Readonly<Record<string, unknown>>;
  readonly results: Readonly<Record<string, Result>>;
  readonly failure: { readonly code: string; readonly stage: string | null; readonly message: string } | null;
  readonly suspicion: number | null;
}

export interface Film extends Row {
  readonly size: number;
  readonly sha256: string;
  readonly graph: string;
  readonly graphIsPresent: boolean;
  readonly notice: string;
  readonly timings: readonly { component: string; startedAt: number; ms: number; batch: number }[];
  readonly images: readonly { stage: string; field: string }[];
  readonly stages: readonly string[];
  readonly models: readonly { stage: string; name: string; createdAt: string; gradCam: boolean }[];
}

export interface Query {
  readonly sort: 'newest' | 'suspicious';
  readonly outcome?: 'done' | 'failed';
  readonly minSuspicion?: number;
  readonly text?: string;
}

export interface Status {
  readonly name: string | null;
  readonly graph: string | null;
  readonly state: 'starting' | 'running' | 'stopping';
  readonly version: string;
  readonly startedAt: string;
  readonly notice: string;
}

export interface LiveNode {
  readonly id: string;
  readonly kind: 'source' | 'stage' | 'sink';
  readonly use: string;
  readonly from: readonly string[];
  readonly when: string | null;
  readonly framesIn: number;
  readonly framesOut: number;
  readonly errors: number;
  readonly queue: number;
  readonly inFlight: number;
  readonly framesPerSecond: number;
  readonly ms: number | null;
  readonly batch: number | null;
  readonly busy: number | null;
}

export interface Live {
  readonly at: string;
  readonly uptimeSeconds: number;
  readonly memory: number;
  readonly films: { done: number; failed: number; already: number; failedBefore: number };
  readonly filmsPerSecond: number;
  readonly load: { waiting: number; frames: number; bytes: number };
  readonly limiting: string | null;
  readonly nodes: readonly LiveNode[];
}

export interface Model {
  readonly stage: string;
  readonly use: string;
  readonly folder: string;
  readonly bundle: { readonly name: string; readonly createdAt: string; readonly license: string };
  readonly card: string;
}

export interface Drift {
  readonly stage: string;
  readonly model: string;
  readonly of: 'anomalyScore' | 'label';
  readonly films: number;
  readonly psi: number | null;
  readonly level: 'too few films' | 'stable' | 'moderate' | 'shifted';
  readonly bins: readonly (number | string)[];
  readonly reference: readonly number[];
  readonly recent: readonly number[];
}

/** Pixels in all their bits, row-major. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array | Uint16Array | Float32Array;
}

/** The process refused, or could not be reached. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

async function ask(path: string, init?: RequestInit): Promise<Response> {
  const response = await fetch(path, { cache: 'no-store', ...init }).catch(() => {
    throw new ApiError(0, 'The process does not answer: has it ended?');
  });
  if (response.ok) return response;
  const body = (await response.json().catch(() => null)) as { error?: { message?: string } } | null;
  throw new ApiError(response.status, body?.error?.message ?? response.statusText);
}

async function get<T>(path: string): Promise<T> {
  return (await (await ask(path)).json()) as T;
}

async function post<T>(path: string, body: unknown): Promise<T> {
  const init = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  };
  return (await (await ask(path, init)).json()) as T;
}

export const status = (): Promise<Status> => get('/api/status');
export const film = (id: string): Promise<Film> => get(`/api/films/${id}`);
export const models = async (): Promise<readonly Model[]> =>
  (await get<{ models: Model[] }>('/api/models')).models;
export const drift = async (): Promise<readonly Drift[]> =>
  (await get<{ models: Drift[] }>('/api/drift')).models;
export const search = (
  query: Query & { offset: number; limit: number },
): Promise<{ total: number; films: Row[] }> => post('/api/films/search', query);
export const replay = (id: string): Promise<unknown> => post(`/api/films/${id}/replay`, {});
export const logIn = (token: string): Promise<unknown> => post('/api/session', { token });

export const thumbnailUrl = (id: string): string => `/api/films/${id}/thumbnail`;
export const stageUrl = (id: string, stage: string): string => `/api/films/${id}/stages/${stage}`;
export const resultUrl = (id: string, stage: string, field: string): string =>
  `/api/films/${id}/results/${stage}/${field}`;

export const gradCamUrl = (id: string, stage: string): string => `/api/films/${id}/grad-cam/${stage}`;

const SAMPLES = { Uint8Array, Uint16Array, Float32Array } as const;

export async function pixels(id: string, stage: string): Promise<Pixels> {
  const response = await ask(`${stageUrl(id, stage)}/pixels`);
  const header = (name: string): string => response.headers.get(`x-image-${name}`) ?? '';
  const Samples = SAMPLES[header('type') as keyof typeof SAMPLES];
  return {
    width: Number(header('width')),
    height: Number(header('height')),
    channels: Number(header('channels')),
    data: new Samples(await response.arrayBuffer()),
  };
}
