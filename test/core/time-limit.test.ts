import { expect } from 'chai';
import { withinTime } from '../../src/core/time-limit.js';

describe('withinTime', () => {
  it('passes on the result of the work, and its error', async () => {
    expect(await withinTime('s', 60_000, () => 3)).to.equal(3);
    const failed = await withinTime('s', 60_000, () => Promise.reject(new Error('no'))).catch(String);
    expect(failed).to.equal('Error: no');
  });

  it('names the stage and the limit when the work takes longer', async () => {
    const endless = new Promise<never>(() => undefined);
    const failed = await withinTime('s', 20, () => endless).catch((error: unknown) => error);
    expect(failed).to.include({ code: 'FRAME_STAGE', component: 's' });
    expect(String(failed)).to.contain('took longer than 20 ms');
  });
});
