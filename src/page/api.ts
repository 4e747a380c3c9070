/** The replies of the running process: see `docs/http-api.md`. */

import type { Anomaly, Classification, Detection, View } from '../core/frame.js';
import type { Live, LiveNode } from '../control/live.js';
import type { History } from '../control/history.js';
import type { Drift, Model } from '../control/models.js';
import type { ShadowComparison } from '../control/shadow.js';
import type { Row as KeptRow, WorklistFilm, Sort } from '../control/worklist.js';

export type { Anomaly, Classification, Detection, Drift, History, Live, LiveNode, Model, Sort, View };

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
  /** Whether it has failed and was discarded. Not in events. */
  readonly discarded?: boolean;
  readonly results: Readonly<Record<string, Result>>;
}

export interface FilmDetails
  extends Row, Pick<WorklistFilm, 'size' | 'sha256' | 'graph' | 'timings' | 'images'> {
  readonly graphIsPresent: boolean;
  /** How many films of its patient there are, and by what they are known; null if by nothing. */
  readonly patient: { readonly by: 'patient' | 'study' | 'folder'; readonly films: number } | null;
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
  /** The id of a film: only films of its patient. */
  readonly patient?: string;
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
  readonly view: View;
}

/** A picture, 8 bit, and the part of the film that it shows. */
export interface Picture {
  readonly bitmap: ImageBitmap;
  readonly view: View;
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
/** A shadow stage's comparison, with the first of the films that they differ on, and their number. */
export type ShownShadow = ShadowComparison & { readonly differ: number };
export type ShownModel = Model & { readonly calibration: string };
export const models = async (): Promise<readonly ShownModel[]> =>
  (await get<{ models: ShownModel[] }>('/api/models')).models;
export const historyOfHours = (hours: number): Promise<History> => get(`/api/history?hours=${String(hours)}`);
export const shadows = async (): Promise<readonly ShownShadow[]> =>
  (await get<{ shadows: ShownShadow[] }>('/api/shadow')).shadows;
export const drift = async (): Promise<readonly Drift[]> =>
  (await get<{ models: Drift[] }>('/api/drift')).models;
export const search = (
  query: Query & { offset: number; limit: number },
): Promise<{ total: number; films: Row[] }> => post('/api/films/search', query);
export const replay = (id: string): Promise<unknown> => post(`/api/films/${id}/replay`, {});
export const discard = (id: string): Promise<unknown> => post('/api/failures/discard', { ids: [id] });
export const review = (id: string, decision: object): Promise<Review> =>
  post(`/api/films/${id}/review`, decision);
export const allFailures = (deed: 'replay' | 'discard'): Promise<{ failures: unknown[] }> =>
  post(`/api/failures/${deed}`, { all: true });
export const logIn = (token: string): Promise<unknown> => post('/api/session', { token });

export const thumbnailUrl = (id: string): string => `/api/films/${id}/thumbnail`;
export const stageUrl = (id: string, stage: string): string => `/api/films/${id}/stages/${stage}`;
export const resultUrl = (id: string, stage: string, field: string): string =>
  `/api/films/${id}/results/${stage}/${field}`;

export const gradCamUrl = (id: string, stage: string, label = ''): string =>
  `/api/films/${id}/grad-cam/${stage}${label === '' ? '' : `?label=${encodeURIComponent(label)}`}`;

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
    view: viewOf(response),
  };
}

export async function picture(url: string): Promise<Picture> {
  const response = await ask(url);
  return { bitmap: await createImageBitmap(await response.blob()), view: viewOf(response) };
}

function viewOf({ headers }: Response): View {
  const numbers = (headers.get('x-image-view') ?? '').split(',').map(Number);
  const [x = 0, y = 0, width = 1, height = 1, filmWidth = 1, filmHeight = 1] = numbers;
  return { x, y, width, height, film: { width: filmWidth, height: filmHeight } };
}
