import type { ErrorCode } from './errors.js';

/**
 * The status of a film at one sink. `open`: no answer yet. `absent`: the film is not for this sink (`when:`, or it
 * failed before). `parked`: it waits in the journal for the sink. `confirmed`: the sink has stored it. `refused`: the
 * sink will not take it.
 */
export type Delivery = 'open' | 'absent' | 'parked' | 'confirmed' | 'refused';

/**
 * The status of a film. `admitted`: it is in the graph. `waiting`: it has left the graph and is parked for at least one
 * sink. `done`: all its sinks have confirmed it. `failed`: it is in the dead letter.
 */
export type Status = 'admitted' | 'waiting' | 'done' | 'failed';

/** The status of a film, in total and at each sink. */
export interface Fate {
  readonly status: Status;
  /** The code of its first failure. A film that one sink has refused stays `admitted` until all sinks have answered. */
  readonly code: ErrorCode | null;
  /** By the sinks' ids; a sink that is not listed is `open`. */
  readonly sinks: Readonly<Record<string, Delivery>>;
}

export type FateEvent =
  /** The film enters the graph, perhaps again; `anew`: its earlier status is ignored. */
  | { readonly kind: 'admit'; readonly anew?: boolean }
  /** It could not be read, or a stage or an expression failed on it. */
  | { readonly kind: 'fail'; readonly code: ErrorCode }
  | { readonly kind: 'skip' | 'park' | 'confirm'; readonly sink: string }
  | { readonly kind: 'refuse'; readonly sink: string; readonly code: ErrorCode }
  /** It leaves the graph: every sink has answered. */
  | { readonly kind: 'leave' };

export type SinkEvent = Extract<FateEvent, { sink: string }>;

/** A film that enters the graph for the first time. */
export const ADMITTED: Fate = { status: 'admitted', code: null, sinks: {} };

/**
 * The fate of a film after an event. Graph, outlets and journal use this function, and nothing else changes a fate.
 * `docs/delivery.md` shows it as tables.
 */
export function next(fate: Fate, event: FateEvent): Fate {
  const { status, code, sinks } = fate;
  switch (event.kind) {
    case 'admit':
      if (event.anew === true) return ADMITTED;
      // An interrupted attempt continues. After a failure, the film is delivered again to sinks that refused it.
      return status === 'failed'
        ? { ...ADMITTED, sinks: without(sinks, 'refused') }
        : { ...fate, status: 'admitted' };
    case 'fail':
      return status === 'admitted' ? { status: 'failed', code: code ?? event.code, sinks } : fate;
    case 'leave':
      return status === 'admitted' ? { ...fate, status: code !== null ? 'failed' : settled(sinks) } : fate;
    default: {
      const now = delivered(sinks, event);
      if (status === 'done' || now === sinks) return fate;
      if (event.kind !== 'refuse')
        return { ...fate, status: status === 'waiting' ? settled(now) : status, sinks: now };
      return { status: status === 'waiting' ? 'failed' : status, code: code ?? event.code, sinks: now };
    }
  }
}

/** The fate after several events. */
export function after(fate: Fate, events: readonly FateEvent[]): Fate {
  return events.reduce(next, fate);
}

/**
 * The fate in the journal combined with that of an attempt, when the film leaves the graph. The journal's record of
 * parked deliveries counts: a sink may have answered meanwhile.
 */
export function concluded(known: Fate, { status, code, sinks }: Fate): Fate {
  const answers = Object.entries(sinks).flatMap(([sink, delivery]): FateEvent[] => {
    if (delivery === 'confirmed') return [{ kind: 'confirm', sink }];
    return delivery === 'refused' && code !== null ? [{ kind: 'refuse', sink, code }] : [];
  });
  const failure: FateEvent[] = status === 'failed' && code !== null ? [{ kind: 'fail', code }] : [];
  return after(known, [...answers, ...failure, { kind: 'leave' }]);
}

/** Whether all of the sinks have answered, or have the film parked. */
export function isAnswered({ sinks }: Fate, ids: readonly string[]): boolean {
  return ids.every((id) => (sinks[id] ?? 'open') !== 'open');
}

/** The precaution for a film during whose attempts the process has ended. */
export type Precaution = 'none' | 'alone' | 'putAside';

/** The third attempt is made with no other film in the graph; there is no fourth. */
export function precautionAfter(interrupted: number): Precaution {
  if (interrupted < 2) return 'none';
  return interrupted === 2 ? 'alone' : 'putAside';
}

const DELIVERED = { skip: 'absent', park: 'parked', confirm: 'confirmed', refuse: 'refused' } as const;

/** The first answer of a sink is final; a parked film is answered a second time. */
function delivered(sinks: Fate['sinks'], { sink, kind }: SinkEvent): Fate['sinks'] {
  const now = sinks[sink] ?? 'open';
  const isFinal = now !== 'open' && (now !== 'parked' || kind === 'skip' || kind === 'park');
  return isFinal ? sinks : { ...sinks, [sink]: DELIVERED[kind] };
}

function settled(sinks: Fate['sinks']): Status {
  return Object.values(sinks).includes('parked') ? 'waiting' : 'done';
}

function without(sinks: Fate['sinks'], delivery: Delivery): Fate['sinks'] {
  return Object.fromEntries(Object.entries(sinks).filter(([, now]) => now !== delivery));
}
