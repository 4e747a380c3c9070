import { createHash } from 'node:crypto';
import { expect } from 'chai';
import type { HostTensor, HostTensors } from '../../src/engine/index.js';
import { scoreAnomalies, type SearchNetworks } from '../../src/models/anomaly-scorer.js';

/**
 * Networks whose loss of a film falls by half the distance to its limit in every ten steps: the film's first pixel is the
 * limit, its second one the distance at the start.
 */
function halving(batches: number[]): SearchNetworks {
  return {
    features: async (images) => images,
    search: async ({ x, fx, z, m, v, t }) => {
      const films = x?.dims[0] ?? 0;
      const step = Number(t?.data[0]);
      batches.push(films);
      const loss: HostTensor = {
        data: Float32Array.from({ length: films }, (_, i) => {
          const [limit = 0, distance = 0] = (x?.data as Float32Array).subarray(i * 4, i * 4 + 2);
          return limit + distance / 2 ** (step / 10);
        }),
        dims: [films],
      };
      expect([fx, z, m, v].map((tensor) => tensor?.dims[0])).to.deep.equal([films, films, films, films]);
      return {
        ...{ residual: loss, discrimination: loss, residualMean: loss, discriminationMean: loss },
        reconstruction: x,
        ...{
          'next/z': z,
          'next/m': m,
          'next/v': v,
          'next/t': { data: Float32Array.of(step + 10), dims: [] },
        },
      } as HostTensors;
    },
  };
}

describe('a latent search', () => {
  it('starts at fixed numbers derived from the pixels: the scores of the shipped bundles depend on them', async () => {
    const starts: HostTensor[] = [];
    const networks: SearchNetworks = {
      features: async () => ({ data: new Float32Array(1), dims: [1, 1] }),
      search: async ({ z, m, v, t }) => {
        starts.push(z as HostTensor);
        const films = z?.dims[0] ?? 0;
        const loss: HostTensor = { data: new Float32Array(films), dims: [films] };
        return {
          ...{ residual: loss, discrimination: loss, residualMean: loss, discriminationMean: loss },
          reconstruction: { data: new Float32Array(films * 16), dims: [films, 4, 4, 1] },
          ...{ 'next/z': z, 'next/m': m, 'next/v': v, 'next/t': t },
        } as HostTensors;
      },
    };
    const images = { data: Float32Array.from({ length: 16 }, (_, i) => i / 16 - 0.5), dims: [1, 4, 4, 1] };
    await scoreAnomalies(networks, images, 101, { steps: 1, lambda: 0.1, learningRate: 0.05, restarts: 2 });
    const z = starts[0]?.data as Float32Array;
    expect(z).to.have.length(202);
    expect([...z.subarray(0, 2)]).to.deep.equal([1.0192373991012573, -0.5104740858078003]);
    const hash = createHash('sha256').update(new Uint8Array(z.buffer, z.byteOffset, z.byteLength));
    expect(hash.digest('hex')).to.match(/^357f635cf6e09e07/);
  });

  describe('with a tolerance', () => {
    const film = (limit: number, distance: number): number[] => [limit, distance, 0, 0];
    const images: HostTensor = {
      data: Float32Array.from([film(1, 8), film(1, 0.01), film(1, 1)].flat()),
      dims: [3, 2, 2, 1],
    };
    const settings = { steps: 100, lambda: 0.1, learningRate: 0.05, restarts: 1, tolerance: 0.05 };

    it('ends for each film when ten steps improve it no more, and the others continue without it', async () => {
      const batches: number[] = [];
      const scores = await scoreAnomalies(halving(batches), images, 2, settings);
      expect(batches).to.deep.equal([3, 3, 2, 2, 2, 2, 1, 1, 1]);
      expect(scores.map(({ anomalyScore }) => Number(anomalyScore.toFixed(4)))).to.deep.equal([
        1.0313, 1.005, 1.0313,
      ]);
      expect(scores.map(({ reconstruction }) => reconstruction[1])).to.deep.equal([8, Math.fround(0.01), 1]);
    });

    it('gives a film the same score as alone', async () => {
      const all = await scoreAnomalies(halving([]), images, 2, settings);
      for (const [at, expected] of all.entries()) {
        const alone = { data: images.data.slice(at * 4, at * 4 + 4), dims: [1, 2, 2, 1] };
        expect(await scoreAnomalies(halving([]), alone, 2, settings)).to.deep.equal([expected]);
      }
    });

    it('of zero takes every step', async () => {
      const batches: number[] = [];
      await scoreAnomalies(halving(batches), images, 2, { ...settings, tolerance: 0 });
      expect(batches).to.deep.equal(new Array<number>(10).fill(3));
    });
  });
});
