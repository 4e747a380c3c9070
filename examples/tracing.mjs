// Sends a trace of every film to an OpenTelemetry collector. rxray brings the API only; the SDK is yours:
//   npm install @opentelemetry/sdk-node @opentelemetry/exporter-trace-otlp-proto
//   OTEL_SERVICE_NAME=rxray OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 \
//     node --import ./tracing.mjs node_modules/rxray/dist/cli/main.js run
// The SDK has to be there before the program, hence --import.
import { isMainThread } from 'node:worker_threads';

// Worker threads inherit --import, and need no SDK: films are traced where they settle.
if (isMainThread) {
  const [{ NodeSDK }, { OTLPTraceExporter }] = await Promise.all([
    import('@opentelemetry/sdk-node'),
    import('@opentelemetry/exporter-trace-otlp-proto'),
  ]);
  const sdk = new NodeSDK({ traceExporter: new OTLPTraceExporter() });
  sdk.start();
  process.once('beforeExit', () => void sdk.shutdown());
}
