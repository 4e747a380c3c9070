import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { REFERENCE_FILE, referenceText } from '../../scripts/reference.js';

describe('docs/reference.md', () => {
  it('equals the schemas (npm run reference writes it)', async () => {
    expect(readFileSync(REFERENCE_FILE, 'utf8')).to.equal(await referenceText());
  });
});
