import type { Frame } from '../../../src/core/frame.js';
import { failurePolicyOf, type FailurePolicy } from '../../../src/core/graph/failure-policy.js';
import type { Log } from '../../../src/core/plugin.js';
import { Ticket, type Token } from '../../../src/core/flow/ticket.js';

/** A frame of one grey pixel per unit of `size`. */
export function frame(id: string, size = 1): Frame {
  const origin = {
    source: 'watch',
    name: `${id}.png`,
    path: `/inbox/${id}.png`,
    size: 10,
    mtimeMs: 0,
    sha256: id,
    receivedAt: '2026-01-01T00:00:00.000Z',
  };
  const image = { width: size, height: size, channels: 1 as const, data: new Uint8Array(size * size) };
  return { id, origin, image, meta: {}, results: {} };
}

const release = (): void => undefined;

export type LiveToken = Token & { readonly frame: Frame };

export function token(id: string, size = 1): LiveToken {
  const it = frame(id, size);
  const { name, path, mtimeMs } = it.origin;
  return { ticket: new Ticket(id, { name, path, mtimeMs, size: 10 }, it.origin, { release }), frame: it };
}

/** `{ a: token('a'), … }` for marble diagrams. */
export function tokens(ids: string): Record<string, LiveToken> {
  return Object.fromEntries([...ids].map((id) => [id, token(id)]));
}

export function withResult(it: Frame, stage: string, value: unknown): Frame {
  return { ...it, results: { ...it.results, [stage]: { kind: 'test', value } } };
}

export const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** A stage of the graph without `retry:` and `onError:`, or with. */
export function stageNode(
  node: Partial<Parameters<typeof failurePolicyOf>[0]> = {},
  log = silent,
): FailurePolicy {
  return failurePolicyOf({ id: 's', ...node }, log);
}
