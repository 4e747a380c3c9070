import { context, SpanStatusCode, trace } from '@opentelemetry/api';
import type { Subscription } from 'rxjs';
import type { Monitor } from '../core/monitor/monitor.js';
import type { Settled } from '../core/flow/settled.js';

/**
 * One OpenTelemetry trace per settled film: a span for the whole film, and in it one for each call of a stage or sink.
 * Without an SDK in the process this does nothing.
 */
export function traceFilms(monitor: Monitor, version: string): Subscription {
  return monitor.settled$.subscribe((film) => traceFilm(film, version));
}

function traceFilm({ id, origin, outcome, failure, graph, spans }: Settled, version: string): void {
  const tracer = trace.getTracer('rxray', version);
  const root = tracer.startSpan('film', {
    root: true,
    startTime: new Date(origin.receivedAt),
    attributes: {
      'rxray.film.id': id,
      'rxray.film.bytes': origin.size,
      'rxray.source': origin.source,
      'rxray.graph': graph,
      'rxray.outcome': outcome,
    },
  });
  if (root.isRecording()) {
    const inside = trace.setSpan(context.active(), root);
    for (const { component, startedAt, ms, batch } of spans) {
      const attributes = { 'rxray.component': component, 'rxray.batch.size': batch };
      const span = tracer.startSpan(component, { startTime: startedAt, attributes }, inside);
      if (component === failure?.component)
        span.setStatus({ code: SpanStatusCode.ERROR, message: failure.code });
      span.end(startedAt + ms);
    }
    if (failure !== undefined) root.setStatus({ code: SpanStatusCode.ERROR, message: failure.code });
  }
  root.end();
}
