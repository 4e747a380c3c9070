import { expect } from 'chai';
import { resample } from '../../../src/training/evaluation/bootstrap.js';
import { lungEnergy } from '../../../src/training/evaluation/lung-energy.js';
import { laidOn } from '../../../src/training/evaluation/lung-masks.js';

const SIZE = { width: 4, height: 2 };
/** The left half is lung. */
const LEFT = Uint8Array.from([1, 1, 0, 0, 1, 1, 0, 0]);
const map = (...data: number[]) => ({ width: 2, height: 1, data: Float32Array.from(data) });
const given = (films: number) => ({
  masks: Array.from({ length: films }, () => LEFT),
  from: 'given',
  implausible: 0,
});

describe('the energy of Grad-CAM inside the lungs', () => {
  it('is the share of the evidence, beside the share of the film that is lung', () => {
    const { films, energy, area, ratio } = lungEnergy([map(3, 1), map(1, 1)], given(2), SIZE, []);
    expect({ films, energy, area, ratio }).to.deep.equal({ films: 2, energy: 0.625, area: 0.5, ratio: 1.25 });
  });

  it('leaves out films without evidence, and is undefined when there are no others', () => {
    expect(lungEnergy([map(1, 0), map(0, 0)], given(2), SIZE, [])).to.include({ films: 1, energy: 1 });
    expect(lungEnergy([map(0, 0)], given(1), SIZE, [])).to.include({ films: 0, energy: null, ratio: null });
  });

  it('has intervals by patient', () => {
    const maps = [map(1, 0), map(1, 0), map(0, 1), map(0, 1)];
    const of = (patients: string[]) => lungEnergy(maps, given(4), SIZE, resample(patients)).intervals;
    expect(of(['a', 'a', 'b', 'b']).energy).to.deep.equal([0, 1]);
    expect(of(['a', 'b', 'c', 'd']).energy?.[0]).to.be.within(0, 0.25);
    expect(of(['a', 'b', 'c', 'd']).area).to.deep.equal([0.5, 0.5]);
  });
});

describe('a mask of the lungs', () => {
  const mask = { width: 4, height: 1, data: Uint8Array.from([255, 255, 0, 0]) };
  const whole = { x: 0, y: 0, width: 4, height: 1, film: { width: 4, height: 1 } };
  const film = { width: 400, height: 100 };

  it('is stretched over the whole film, whatever the film’s size', () => {
    const view = { x: 0, y: 0, ...film, film };
    expect([...laidOn({ mask, view: whole }, SIZE, view)]).to.deep.equal([...LEFT]);
  });

  it('keeps its place on a picture that shows a part of the film', () => {
    const view = { x: 100, y: 0, width: 200, height: 100, film };
    expect([...laidOn({ mask, view: whole }, { width: 2, height: 1 }, view)]).to.deep.equal([1, 0]);
  });

  it('is empty outside of the part that it is of', () => {
    const right = { x: 200, y: 0, width: 200, height: 100, film };
    const all = { x: 0, y: 0, ...film, film };
    expect([...laidOn({ mask, view: right }, { width: 4, height: 1 }, all)]).to.deep.equal([0, 0, 1, 0]);
  });
});
