/**
 * Whether the engine gives back the memory it takes: many runs of one small graph, and many models loaded and released.
 *
 *     npm run bench:memory
 *
 * The slope is that of a straight line through the resident size after the first quarter, in which pools still grow.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import * as tf from '@tensorflow/tfjs-core';
import { compile, Engine, type TraceableFunction } from '../src/engine/index.js';
import { normalNoise, seededRandom } from '../src/models/index.js';

const RUNS = 10_000;
/** More than the worker needs to collect its own garbage a few times. */
const CYCLES = 400;
const MIB = 2 ** 20;
const SAMPLES = 100;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const noise = seededRandom(1);
const variables = {
  first: normalNoise([3, 3, 3, 64], noise, { std: 0.1 }),
  second: normalNoise([3, 3, 64, 256], noise, { std: 0.1 }),
};
/** 0.6 MiB of weights, so that a session that leaks shows. */
const network: TraceableFunction = ({ x }, { first, second }) => {
  const features = tf.relu(tf.conv2d(x as tf.Tensor4D, first as tf.Tensor4D, 2, 'same'));
  return { y: tf.mean(tf.conv2d(features, second as tf.Tensor4D, 2, 'same'), [1, 2]) };
};
const inputs = { x: { shape: [1, 16, 16, 3] } };
const options = { variables, batch: 'symbolic', device: 'cpu', threads: 1 } as const;
const feeds = { x: normalNoise([2, 16, 16, 3], noise) };

const engine = new Engine();
try {
  const kept = await compile(engine, network, inputs, options);
  await watch('runs of one graph', RUNS, () => kept(feeds));
  await kept.dispose();
  await watch('cycles of compile, run, release', CYCLES, async () => {
    const compiled = await compile(engine, network, inputs, options);
    await compiled(feeds);
    await compiled.dispose();
  });
} finally {
  await engine.dispose();
}

async function watch(title: string, times: number, work: () => Promise<unknown>): Promise<void> {
  const every = Math.ceil(times / SAMPLES);
  const sizes = [residentSize()];
  for (let done = 1; done <= times; done++) {
    await work();
    if (done % every === 0) sizes.push(residentSize());
  }
  const settled = Math.floor(sizes.length / 4);
  const perRun = slope(sizes.slice(settled)) / every;
  const [before, middle, after] = [sizes[0], sizes[settled], sizes.at(-1)].map((size) => (size ?? 0) / MIB);
  console.log(
    `${times} ${title}: ${before?.toFixed(1)} MiB before, ${middle?.toFixed(1)} after a quarter, ` +
      `${after?.toFixed(1)} at the end; ${((perRun * times) / MIB).toFixed(2)} MiB for ${times} by the slope`,
  );
}

function residentSize(): number {
  collectGarbage();
  return process.memoryUsage.rss();
}

/** Least squares, in bytes a sample. */
function slope(sizes: readonly number[]): number {
  const middle = (sizes.length - 1) / 2;
  const moments = sizes.map((size, index) => [(index - middle) * size, (index - middle) ** 2] as const);
  return moments.reduce((sum, [a]) => sum + a, 0) / moments.reduce((sum, [, b]) => sum + b, 0);
}
