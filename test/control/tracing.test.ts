import { readFileSync } from 'node:fs';
import {
  SpanStatusCode,
  trace,
  type Attributes,
  type Context,
  type Span,
  type SpanOptions,
} from '@opentelemetry/api';
import { expect } from 'chai';
import { traceFilms } from '../../src/control/tracing.js';
import { Monitor } from '../../src/core/monitor/monitor.js';
import { frame } from '../core/graph/support.js';

interface Recorded {
  readonly name: string;
  readonly parent: string | undefined;
  readonly attributes: Attributes;
  readonly start: unknown;
  end?: unknown;
  status?: number;
}

/** As much of an SDK as there is to record. */
function record(recorded: Recorded[]): void {
  const names = new Map<Span, string>();
  trace.setGlobalTracerProvider({
    getTracer: () => ({
      startSpan(name: string, { attributes = {}, startTime }: SpanOptions, context?: Context) {
        const parent = context && trace.getSpan(context);
        const entry: Recorded = { name, parent: parent && names.get(parent), attributes, start: startTime };
        recorded.push(entry);
        const span = {
          isRecording: () => true,
          setStatus: ({ code }: { code: number }) => (entry.status = code),
          end: (time: unknown) => (entry.end = time),
        } as unknown as Span;
        names.set(span, name);
        return span;
      },
      startActiveSpan: () => undefined as never,
    }),
  });
}

describe('traceFilms', () => {
  afterEach(() => trace.disable());

  const film = {
    id: 'a',
    name: 'a.png',
    origin: frame('a').origin,
    outcome: 'failed' as const,
    frame: null,
    failure: { code: 'FRAME_DAMAGED' as const, component: 'decode', message: 'Doe^John.png is torn' },
    graph: 'g',
    spans: [{ component: 'decode', startedAt: 1000, ms: 5, batch: 1 }],
  };

  it('makes a span of each film and one in it of each call, without names', () => {
    const recorded: Recorded[] = [];
    record(recorded);
    const monitor = new Monitor();
    const subscription = traceFilms(monitor, '1.0.0');
    monitor.settle(film);
    subscription.unsubscribe();
    const [root, decode] = recorded;
    expect(root).to.include({ name: 'film', status: SpanStatusCode.ERROR });
    expect(root!.attributes).to.include({ 'rxray.film.id': 'a', 'rxray.outcome': 'failed' });
    expect(decode).to.deep.include({ name: 'decode', parent: 'film', start: 1000, end: 1005, status: 2 });
    expect(JSON.stringify(recorded)).not.to.match(/Doe|a\.png/);
  });

  it('does nothing without an SDK', () => {
    const monitor = new Monitor();
    traceFilms(monitor, '1.0.0');
    expect(() => monitor.settle(film)).not.to.throw();
  });

  it('brings an API that SDKs of 1.9 take: they give nothing to a newer one', () => {
    const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    expect(manifest).to.match(/"@opentelemetry\/api": "~1\.9\.\d+"/);
  });
});
