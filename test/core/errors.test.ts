import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { ERROR_CODES } from '../../src/core/errors.js';

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
