import { expect } from 'chai';
import { decode } from '../../../src/plugins/decode.js';
import { syntaxFiles } from '../../support/dicom-syntaxes.js';
import { expectSame, fixture, readPng } from '../../support/goldens.js';

describe('decode: every transfer syntax, against dcmtk, gdcm and openjph (fixtures/make_dicom_syntaxes.py)', () => {
  for (const { name, bytes, golden } of syntaxFiles()) {
    it(name.replaceAll('-', ' '), async () => {
      const bits = Number(/\d+$/.exec(name.replace('-signed', ''))?.[0] ?? 8);
      // The whole range of the stored bits.
      const voi = { center: name.endsWith('signed') ? 0 : 2 ** (bits - 1), width: 2 ** bits };
      const { image, meta } = await decode(bytes, { color: 'keep', maxPixels: 1e6, maxBytes: 1e6, voi });
      // The wavelets of lossy JPEG 2000 are floating point: each version of OpenJPEG rounds them in its own way.
      expectSame(image, await readPng(fixture(golden)), name === 'jpeg-2000-lossy-12' ? 65535 / 4095 : 0);
      expect(meta.warnings).to.equal(undefined);
    });
  }
});
