import * as ort from 'onnxruntime-node';
import { timed, type Contender, type Setting } from './contender.js';

/** A file in ONNX Runtime with nothing around it: the session lives in this thread. */
export async function onnxFile(
  name: string,
  path: string,
  feeds: Readonly<Record<string, ort.Tensor>>,
  { device, threads }: Setting,
): Promise<Contender> {
  const session = await ort.InferenceSession.create(path, {
    executionProviders: [device],
    intraOpNumThreads: threads,
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
  });
  await timed(2, () => session.run(feeds));
  return {
    name,
    mode: 'session in the main thread',
    details: {},
    run: (times) => timed(times, () => session.run(feeds)),
    dispose: () => session.release(),
  };
}
