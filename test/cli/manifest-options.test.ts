import { expect } from 'chai';
import { manifestOptionsOf } from '../../src/cli/manifest-options.js';

describe('the options for a manifest', () => {
  it('name the column of the masks, too', () => {
    const columns = 'path=film,mask=lungs';
    expect(manifestOptionsOf({ columns, directory: 'films' })).to.deep.equal({
      columns: { path: 'film', mask: 'lungs' },
      directory: 'films',
    });
  });

  it('refuse a column that is not known', () => {
    expect(() => manifestOptionsOf({ columns: 'klass=view' }))
      .to.throw('--columns klass=view')
      .with.property('code', 'TRAINING_DATA');
  });
});
