import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect } from 'chai';
import { durably, durablySync } from '../../src/core/durable.js';

describe('durable steps', () => {
  let heard: unknown[];
  const listen = (message: unknown): void => void heard.push(message);
  beforeEach(() => {
    heard = [];
    subscribe('rxray:durable', listen);
  });
  afterEach(() => void unsubscribe('rxray:durable', listen));

  it('are published before and after they are done', async () => {
    expect(await durably('a.b', () => Promise.resolve(heard.push('done')))).to.equal(2);
    expect(durablySync('c.d', () => heard.push('done'))).to.equal(5);
    expect(heard).to.deep.equal([
      { step: 'a.b', phase: 'before' },
      'done',
      { step: 'a.b', phase: 'after' },
      { step: 'c.d', phase: 'before' },
      'done',
      { step: 'c.d', phase: 'after' },
    ]);
  });

  it('are not published as done when they failed', async () => {
    const failing = durably('a.b', () => Promise.reject(new Error('no')));
    expect(String(await failing.catch((error: unknown) => error))).to.equal('Error: no');
    expect(heard).to.deep.equal([{ step: 'a.b', phase: 'before' }]);
  });
});
