import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { ERRORS_FILE, errorsText } from '../../scripts/errors.js';
import { errorKind, ERRORS, exitCodeOf, isFatal, RxrayError, Unavailable } from '../../src/core/errors.js';
import { ExpressionSyntaxError } from '../../src/core/expression.js';
import { toPlainError } from '../../src/core/workers/protocol.js';

describe('the table of errors', () => {
  it('and its page in the docs are equal', async () => {
    expect(readFileSync(ERRORS_FILE, 'utf8')).to.equal(await errorsText());
  });

  it('has the consequences of an error as columns', () => {
    const film = new RxrayError('FRAME_DAMAGED', 'cut off');
    const disk = new RxrayError('STATE_UNWRITABLE', 'the disk is full');
    const receiver = new Unavailable('nobody answers', 5);
    expect([film, disk, receiver, new Error()].map(errorKind)).to.deep.equal([
      'frame',
      'fatal',
      'outage',
      undefined,
    ]);
    expect([film, disk, receiver, new Error()].map(isFatal)).to.deep.equal([false, true, false, false]);
    expect([film, disk, new RxrayError('CONFIG_CYCLE', ''), 'thrown'].map(exitCodeOf)).to.deep.equal([
      1, 3, 2, 3,
    ]);
    expect(ERRORS.FRAME_UNREADABLE).to.include({ kind: 'frame', exit: 1, status: 404 });
  });
});

describe('an RxrayError', () => {
  it('of another copy of the class is recognised, too, and keeps its code between threads', async () => {
    const copy = new URL('../../src/core/errors.js?copy', import.meta.url).href;
    const other = (await import(copy)) as typeof import('../../src/core/errors.js');
    expect(other.RxrayError).not.to.equal(RxrayError);
    const error = new other.RxrayError('FRAME_DAMAGED', 'cut off', { component: 'decode' });
    expect(error).to.be.instanceOf(RxrayError).and.not.instanceOf(ExpressionSyntaxError);
    expect(toPlainError(error)).to.include({ code: 'FRAME_DAMAGED', component: 'decode' });
  });

  it('is no error of the system, and no other object with a code', () => {
    for (const other of [Object.assign(new Error(), { code: 'ENOENT' }), { code: 'FRAME_DAMAGED' }, null]) {
      expect(other).not.to.be.instanceOf(RxrayError);
    }
  });
});
