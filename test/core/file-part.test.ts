import { expect } from 'chai';
import { partName, partOf, wholeFile } from '../../src/core/file-part.js';

describe('the films in a file', () => {
  it('are distinguished from files that have such a name themselves', () => {
    const part = { file: 'ward/ct#1of9.dcm', number: 3, of: 12 };
    const name = partName(part);
    expect(name).to.equal('ward/ct#1of9.dcm#3of12');
    expect(partOf({ name, path: '/in/ward/ct#1of9.dcm' })).to.deep.equal(part);
    expect(partOf({ name, path: `/in/${name}` })).to.equal(undefined);
    expect(partOf({ name: part.file, path: `/in/${part.file}` })).to.equal(undefined);
    expect(wholeFile({ name, path: '/in/ward/ct#1of9.dcm', size: 1 })).to.include({
      name: part.file,
      size: 1,
    });
  });
});
