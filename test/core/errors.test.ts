import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { ERROR_CODES, RxrayError } from '../../src/core/errors.js';
import { ExpressionSyntaxError } from '../../src/core/expression.js';
import { toPlainError } from '../../src/core/workers/wire.js';

describe('the error codes', () => {
  it('and their page in the docs say the same', () => {
    const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');
    const rows = [...page.matchAll(/^\| `([A-Z_]+)` *\| (.*?) *\|/gm)].map(([, code, meaning]) => [
      code,
      meaning,
    ]);
    expect(Object.fromEntries(rows)).to.deep.equal(ERROR_CODES);
    expect(rows).to.have.length(Object.keys(ERROR_CODES).length);
  });
});

describe('an RxrayError', () => {
  it('of another copy of the class is one, too, and keeps its code between threads', async () => {
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
