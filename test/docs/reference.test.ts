import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { REFERENCE_FILE, referenceText } from '../../scripts/reference.js';

describe('docs/reference.md', () => {
  it('says what the schemas say (npm run reference writes it anew)', async () => {
    expect(readFileSync(REFERENCE_FILE, 'utf8')).to.equal(await referenceText());
  });
});
