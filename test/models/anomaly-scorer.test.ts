import { createHash } from 'node:crypto';
import { expect } from 'chai';
import type { HostTensor, HostTensors } from '../../src/engine/index.js';
import { scoreAnomalies, type SearchNetworks } from '../../src/models/anomaly-scorer.js';

describe('a latent search', () => {
  it('starts where the pixels say, for ever: the scores of the shipped bundles depend on it', async () => {
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
});
