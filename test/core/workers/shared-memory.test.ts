import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { countShared } from '../../../src/core/workers/shared-memory.js';

describe('shared memory', () => {
  it('is garbage-collected after a number of bytes', async () => {
    const holders: WeakRef<SharedArrayBuffer>[] = [];
    for (let film = 0; film < 64; film++) {
      const pixels = new SharedArrayBuffer(4 * 1024 ** 2);
      countShared(pixels.byteLength);
      holders.push(new WeakRef(pixels));
      await setImmediate();
    }
    await setImmediate();
    const held = holders.filter((holder) => holder.deref() !== undefined);
    expect(held.length, 'of 64').to.be.at.most(20);
  });
});
