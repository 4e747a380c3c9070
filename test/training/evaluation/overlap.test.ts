import { expect } from 'chai';
import type { Bundle } from '../../../src/models/bundle.js';
import type { Dataset } from '../../../src/training/dataset.js';
import { overlaps, validationFilms } from '../../../src/training/evaluation/overlap.js';
import type { Film, Split } from '../../../src/training/film.js';
import { bundleOf } from '../../support/bundles.js';

const film = (name: string, split: Split): Film => ({
  ...{ path: name, name, class: 'normal', patient: name, split },
  sha256: Buffer.from(name.padEnd(32)).toString('hex'),
});
const dataset = (films: readonly Film[], fingerprint: string): Dataset => ({
  ...{ films, fingerprint, classes: ['normal'], duplicates: 0, unreadable: [], leftOut: [], findings: [] },
  patients: null,
  counts: Object.fromEntries(films.map(({ split }) => [split, {}])),
});

describe('films that make the figures too good', () => {
  const trained = dataset([film('a', 'train'), film('b', 'val'), film('c', 'test')], 'own');
  const input = { width: 8, height: 8, channels: 1, layout: 'NHWC', mean: [0], std: [1] } as const;
  const { data, ...rest } = bundleOf({ kind: 'classifier', input: { ...input, mean: [0], std: [1] } });
  const bundle: Bundle = {
    ...rest,
    files: {},
    data: { ...data, fingerprint: 'own', validation: validationFilms(trained) },
  };

  it('are the training films, and those that selected its epoch, but not the test films', () => {
    expect(overlaps(bundle, trained, 'train')[0]).to.match(/trained on these films/);
    expect(overlaps(bundle, trained, 'val')[0]).to.match(/^These films helped to choose the model/);
    expect(overlaps(bundle, trained, 'all')[0]).to.match(/trained on some of these films/);
    expect(overlaps(bundle, trained, 'test')).to.deep.equal([]);
  });

  it('are found one by one in other data, by their bytes', () => {
    const others = dataset([film('b', 'test'), film('d', 'test')], 'others');
    expect(overlaps(bundle, others, undefined)[0]).to.match(/^1 of these 2 films helped/);
    expect(overlaps(bundle, dataset([film('d', 'test')], 'others'), 'test')).to.deep.equal([]);
  });

  it('are those of a calibration, too, and are known of older bundles by the fingerprint', () => {
    const { validation: _none, ...older } = bundle.data;
    expect(overlaps({ ...bundle, data: older }, trained, 'val')).to.have.length(1);
    const ownCalibration = { data: 'ours', fingerprint: 'ours' } as Bundle['ownCalibration'];
    const ours = dataset([film('e', 'test')], 'ours');
    expect(overlaps({ ...bundle, ownCalibration }, ours, 'test')[0]).to.match(
      /calibrated on these films \(ours\)/,
    );
  });
});
