import * as tf from '@tensorflow/tfjs-core';
import { Engine, traceToOnnx } from '../../src/engine/index.js';
import { normalNoise, seededRandom } from '../../src/models/index.js';
import { timed, type Setting } from './contender.js';

const SIZE = 2048;
const RUNS = 8;

/** This machine's measured peak: the fastest of several large matrix products in ONNX Runtime, in operations per second. */
export async function measurePeak(setting: Setting): Promise<number> {
  const b = normalNoise([SIZE, SIZE], seededRandom(1));
  const { bytes } = traceToOnnx(
    // The sum keeps the copy of the result out of the measurement.
    ({ a }, { b: fixed }) => ({ y: tf.sum(tf.matMul(a as tf.Tensor2D, fixed as tf.Tensor2D)) }),
    { a: { shape: [SIZE, SIZE] } },
    { variables: { b }, freeze: true },
  );
  const engine = new Engine();
  const session = await engine.load(bytes, setting);
  const fastest = Math.min(...(await timed(RUNS, () => session.run({ a: b }))));
  await engine.dispose();
  return (2 * SIZE ** 3) / (fastest / 1000);
}
