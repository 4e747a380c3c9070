import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { Engine, traceToOnnx, type HostTensors, type TensorMap } from '../../src/engine/index.js';
import { ForwardPass, initDcgan, normalNoise, seededRandom } from '../../src/models/index.js';
import { criticLoss } from '../../src/models/wgan-gp.js';

describe('the gradient penalty of WGAN-GP', function () {
  this.timeout(120_000);
  let engine: Engine;
  before(() => {
    engine = new Engine({ threads: () => 1 });
  });
  after(() => engine.dispose());

  /** That the gradient is what finite differences give along it: one number for each parameter. */
  async function checkGradients(
    parameters: HostTensors,
    trained: readonly string[],
    feeds: HostTensors,
    lossOf: (feeds: TensorMap, parameters: TensorMap) => tf.Scalar,
  ): Promise<void> {
    const model = traceToOnnx(
      (given, state) => {
        const { value, grads } = tf.valueAndGrads((...values: tf.Tensor[]) => {
          const moved = trained.map((name, i): [string, tf.Tensor] => [name, values[i] as tf.Tensor]);
          return lossOf(given, { ...state, ...Object.fromEntries(moved) });
        })(trained.map((name) => state[name] as tf.Tensor));
        const gradients = trained.map((name, i): [string, tf.Tensor] => [`d/${name}`, grads[i] as tf.Tensor]);
        return { loss: value, ...Object.fromEntries(gradients) };
      },
      Object.fromEntries(Object.entries(feeds).map(([name, { dims }]) => [name, { shape: [...dims] }])),
      { variables: parameters },
    );
    const session = await engine.load(model.bytes, { device: 'cpu' });
    const run = (moved: HostTensors = {}): Promise<HostTensors> =>
      session.run({ ...feeds, ...parameters, ...moved });
    const analytic = await run();
    for (const name of trained) {
      const gradient = analytic[`d/${name}`]?.data as Float32Array;
      const norm = Math.hypot(...gradient);
      expect(norm, name).to.be.above(0.01);
      const step = 0.01;
      const { data, dims } = parameters[name] as { data: Float32Array; dims: number[] };
      const lossAt = async (sign: number): Promise<number> => {
        const shifted = data.map((value, i) => value + (sign * step * (gradient[i] ?? 0)) / norm);
        return Number((await run({ [name]: { data: shifted, dims } })).loss?.data[0]);
      };
      const numeric = ((await lossAt(1)) - (await lossAt(-1))) / (2 * step);
      expect(numeric / norm, name).to.be.closeTo(1, 0.02);
    }
    await session.dispose();
  }

  it('goes through the engine: second derivatives of convolutions are what finite differences give', async () => {
    const random = seededRandom(1);
    const parameters = {
      k1: normalNoise([4, 4, 1, 3], random, { std: 0.3 }),
      bias: normalNoise([3], random),
      k2: normalNoise([4, 4, 3, 5], random, { std: 0.3 }),
      w: normalNoise([80, 1], random, { std: 0.3 }),
    };
    // Smooth activations: those with a kink have jumps in their second derivative, which no gradient sees.
    const critic = ({ k1, bias, k2, w }: TensorMap, x: tf.Tensor4D): tf.Tensor => {
      const first = tf.softplus(tf.add(tf.conv2d(x, k1 as tf.Tensor4D, 2, 'same'), bias as tf.Tensor));
      const second = tf.softplus(tf.conv2d(first as tf.Tensor4D, k2 as tf.Tensor4D, 2, 'same'));
      return tf.matMul(tf.reshape(second, [2, 80]), w as tf.Tensor2D);
    };
    const images = normalNoise([2, 16, 16, 1], random, { std: 0.5 });
    await checkGradients(parameters, Object.keys(parameters), { images }, (feeds, state) => {
      const gradient = tf.grad((x: tf.Tensor) => tf.sum(critic(state, x as tf.Tensor4D)))(
        feeds['images'] as tf.Tensor,
      );
      return tf.mean(tf.square(tf.sub(tf.sqrt(tf.sum(tf.square(gradient), [1, 2, 3])), 1)));
    });
  });

  it("moves the critic's last layer as finite differences say", async () => {
    const options = { width: 2, zDim: 6, critic: true };
    const random = seededRandom(2);
    const parameters = Object.fromEntries(
      Object.entries(initDcgan(options, 1)).map(([name, tensor]) => [
        name,
        name.startsWith('discriminator/') ? normalNoise(tensor.dims, random, { std: 0.2 }) : tensor,
      ]),
    );
    const feeds = {
      images: normalNoise([2, 64, 64, 1], random, { std: 0.5 }),
      z: normalNoise([2, 6], random),
      mix: { data: Float32Array.of(0.3, 0.8), dims: [2] },
    };
    await checkGradients(parameters, ['discriminator/logits/kernel'], feeds, (given, state) => {
      const pass = new ForwardPass(state, true);
      return criticLoss(options, 10, given, pass, pass).loss;
    });
  });
});
