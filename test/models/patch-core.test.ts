import type * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { Engine, type HostTensor, type HostTensors } from '../../src/engine/index.js';
import { ForwardPass, initResnet, normalNoise, seededRandom } from '../../src/models/index.js';
import {
  exportPatchcore,
  exportPatchFeatures,
  patchFeatures,
  patchGrid,
  type PatchcoreOptions,
} from '../../src/models/patch-core.js';
import { patchScores } from '../../src/models/patch-scorer.js';
import { expectClose, numbers, toHost, toTensors, useCpuBackend } from '../engine/support.js';
import { TOY_RESNET } from '../support/bundles.js';

const network = TOY_RESNET;
const options: PatchcoreOptions = { network, layers: ['stage2', 'stage3'] };

describe('patchcore', () => {
  const parameters = initResnet(network, 1);
  const images = normalNoise([3, 32, 32, 1], seededRandom(2), { mean: 0.5, std: 0.2 });
  let engine: Engine;
  before(async () => {
    await useCpuBackend();
    engine = new Engine({ threads: () => 1 });
  });
  after(() => engine.dispose());

  async function run(bytes: Uint8Array, given = images): Promise<HostTensors> {
    const session = await engine.load(bytes, { device: 'cpu' });
    const outputs = await session.run({ images: given });
    await session.dispose();
    return outputs;
  }

  it('has the patches of the finest layer, with the coarser ones brought to its grid', async () => {
    expect(patchGrid(options)).to.deep.equal([4, 4]);
    const { features } = await run(exportPatchFeatures(parameters, options));
    expect(features?.dims).to.deep.equal([3, 4, 4, 8 + 16]);
    const pass = new ForwardPass(toTensors(parameters), false);
    const expected = patchFeatures(options, pass, toTensors({ images })['images'] as tf.Tensor4D);
    expectClose({ features: features as HostTensor }, toHost({ features: expected }), 1e-4);
  });

  for (const places of [1, 16]) {
    it(`measures the distance to every remembered patch, ${places === 1 ? 'in one memory' : 'of its own place'}`, async () => {
      const random = seededRandom(3);
      const memory = {
        mean: normalNoise([24], random),
        projection: normalNoise([24, 5], random),
        memory: normalNoise([places, 7, 5], random),
      };
      const { features } = await run(exportPatchFeatures(parameters, options));
      const { distances } = await run(exportPatchcore(parameters, memory, options));
      expect(distances?.dims).to.deep.equal([3, 16, 7]);
      const at = (tensor: HostTensor | undefined, i: number): number => Number(tensor?.data[i]);
      for (const [film, patch, remembered] of [
        [0, 0, 0],
        [1, 5, 6],
        [2, 15, 3],
      ] as const) {
        let square = 0;
        for (let axis = 0; axis < 5; axis++) {
          let value = 0;
          for (let c = 0; c < 24; c++) {
            const centred = at(features, (film * 16 + patch) * 24 + c) - at(memory.mean, c);
            value += centred * at(memory.projection, c * 5 + axis);
          }
          const list = places === 1 ? 0 : patch;
          square += (value - at(memory.memory, (list * 7 + remembered) * 5 + axis)) ** 2;
        }
        expect(at(distances, (film * 16 + patch) * 7 + remembered)).to.be.closeTo(Math.sqrt(square), 1e-3);
      }
      const alone = { data: (images.data as Float32Array).slice(1024, 2048), dims: [1, 32, 32, 1] };
      const single = await run(exportPatchcore(parameters, memory, options), alone);
      expectClose({ d: single['distances'] as HostTensor }, { d: rowOf(distances as HostTensor, 1) }, 1e-4);
    });
  }
});

function rowOf({ data, dims: [, ...inner] }: HostTensor, row: number): HostTensor {
  const size = inner.reduce((a, b) => a * b, 1);
  return { data: (data as Float32Array).slice(row * size, (row + 1) * size), dims: [1, ...inner] };
}

describe('the score of a film', () => {
  // Two patches, three remembered ones on a line at 0, 1 and 10.
  const memory = { data: Float32Array.of(0, 1, 10), dims: [1, 3, 1] };
  const distances = { data: Float32Array.of(2, 3, 8, 5, 4, 5), dims: [1, 2, 3] };

  it('is the mean of its patches’ distances to the nearest remembered one', () => {
    const [score] = patchScores(distances, memory, 'mean');
    expect(score?.anomalyScore).to.equal(3);
    expect(score?.rawSum).to.equal(6);
    expect(numbers({ data: score?.map as Float32Array, dims: [2] })).to.deep.equal([2, 4]);
  });

  it('is no number where the distances are none, whichever film of the batch it is', () => {
    const two = { data: Float32Array.of(2, 3, 8, 5, 4, 5, ...Array<number>(6).fill(NaN)), dims: [2, 2, 3] };
    for (const by of ['mean', 'max'] as const) {
      const [, broken] = patchScores(two, memory, by);
      expect(broken?.anomalyScore).to.be.NaN;
    }
  });

  it('or the farthest patch, weighed as in equation 7 of the paper', () => {
    const [score] = patchScores(distances, memory, 'max');
    // The farthest patch is 4 from the one at 1, and 5 from both of its neighbours.
    expect(score?.anomalyScore).to.be.closeTo((1 - 1 / (1 + 2 * Math.E)) * 4, 1e-6);
  });
});
