/** The replies of the running process: see `docs/http-api.md`. */

import type { Anomaly, Classification, Detection } from '../core/frame.js';
import type { Live, LiveNode } from '../control/live.js';
import type { Drift, Model } from '../control/models.js';
import type { Row as KeptRow, WorklistFilm, Sort } from '../control/worklist.js';

export type { Anomaly, Classification, Detection, Drift, Live, LiveNode, Model, Sort };

export type Result = Classification | Anomaly | Detection | { readonly kind: string };

export type ReviewAnswer = 'right' | 'wrong' | 'unusable' | 'reviewed';

/** A person's decision about a film. */
export interface Review {
  readonly answer: ReviewAnswer;
  readonly class: string | null;
  readonly by: string;
  readonly at: string;
}

export interface Row extends Omit<KeptRow, 'results'> {
  /** Not in events. */
  readonly review?: Review | null;
  readonly results: Readonly<Record<string, Result>>;
}

export interface FilmDetails
  extends Row, Pick<WorklistFilm, 'size' | 'sha256' | 'graph' | 'timings' | 'images'> {
  readonly graphIsPresent: boolean;
  readonly notice: string;
  readonly stages: readonly string[];
  readonly models: readonly {
    stage: string;
    name: string;
    createdAt: string;
    labels: readonly string[];
    gradCam: boolean;
  }[];
}

export interface Query {
  readonly sort: Sort;
  readonly label?: string;
  readonly reviewed?: boolean;
  readonly outcome?: 'done' | 'failed' | 'skipped';
  readonly suspicious?: boolean;
  readonly text?: string;
}

export interface Status {
  readonly name: string | null;
  readonly graph: string | null;
  readonly state: 'starting' | 'running' | 'stopping';
  readonly version: string;
  readonly startedAt: string;
  readonly notice: string;
  readonly folders: readonly string[];
}

/** Pixels at their full bit depth, row-major. */
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
    throw new ApiError(0, 'rxray is not responding. Is it still running?');
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
export const film = (id: string): Promise<FilmDetails> => get(`/api/films/${id}`);
/** A model, and the films that its thresholds were calibrated on. */
export type ShownModel = Model & { readonly calibration: string };
export const models = async (): Promise<readonly ShownModel[]> =>
  (await get<{ models: ShownModel[] }>('/api/models')).models;
export const drift = async (): Promise<readonly Drift[]> =>
  (await get<{ models: Drift[] }>('/api/drift')).models;
export const search = (
  query: Query & { offset: number; limit: number },
): Promise<{ total: number; films: Row[] }> => post('/api/films/search', query);
export const replay = (id: string): Promise<unknown> => post(`/api/films/${id}/replay`, {});
export const review = (id: string, decision: object): Promise<Review> =>
  post(`/api/films/${id}/review`, decision);
export const allFailures = (deed: 'replay' | 'discard'): Promise<{ failures: unknown[] }> =>
  post(`/api/failures/${deed}`, { all: true });
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

export async function picture(url: string): Promise<ImageBitmap> {
  const response = await ask(url);
  return createImageBitmap(await response.blob());
}
