import { expect } from 'chai';
import { checkMade, sealed, type Frame } from '../../src/core/frame.js';
import { frame } from './graph/support.js';

describe('what a stage made of a frame', () => {
  const given: Frame = { ...frame('a'), encoded: Uint8Array.of(1), repeat: 5 };
  const thrownBy = (made: unknown): string => {
    try {
      checkMade(made as Frame, given);
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };
  const withResult = (value: unknown): unknown => ({ ...given, results: { s: { kind: 'test', value } } });

  it('is taken with new pixels, metadata and results', () => {
    const { encoded: _, ...decoded } = given;
    const image = { width: 2, height: 1, channels: 3, data: new Float32Array(6) };
    const made = {
      ...decoded,
      image,
      meta: { bits: 8 },
      results: { s: { kind: 'map', map: image, at: [1, null] } },
    };
    expect(checkMade(made as unknown as Frame, given)).to.equal(made);
  });

  it('is refused with the id or the origin of another film, or without one', () => {
    expect(thrownBy(undefined)).to.match(/did not return the frame/);
    expect(thrownBy({ ...given, id: 'b' })).to.match(/did not return the frame/);
    const { origin, ...without } = given;
    expect(thrownBy(without)).to.match(/without its own origin/);
    expect(thrownBy({ ...given, origin: { ...origin, name: 'b.png' } })).to.match(/without its own origin/);
    expect(thrownBy({ ...given, origin: { ...origin } })).to.equal('');
  });

  it('is refused when it was changed in place into another film', () => {
    const mine = sealed({ ...given, origin: { ...given.origin } });
    expect(() => Object.assign(mine, { id: 'b' })).to.throw(TypeError);
    expect(() => Object.assign(mine.origin, { name: 'b.png' })).to.throw(TypeError);
  });

  it('gets back its encoded file and `repeat`', () => {
    const made = checkMade({ ...given, encoded: Uint8Array.of(2), repeat: 6 }, given);
    expect(made.encoded).to.equal(given.encoded);
    expect(made.repeat).to.equal(5);
  });

  it('is refused with a malformed image', () => {
    const samples = new Uint8Array(8);
    for (const [image, message] of [
      [{ width: 2, height: 2, channels: 2, data: samples }, /2 channels, not 1 or 3/],
      [{ width: 2.5, height: 2, channels: 1, data: new Uint8Array(5) }, /whole numbers.*2\.5/],
      [{ width: -2, height: -4, channels: 1, data: samples }, /whole numbers/],
      [{ width: 2, height: 2, channels: 1, data: samples }, /8 samples for 2 × 2 × 1/],
      [{ width: 2, height: 2, channels: 1, data: [0, 0, 0, 0] }, /samples are Array/],
      [null, /malformed image: null/],
    ] as const) {
      expect(thrownBy({ ...given, image })).to.match(message);
    }
  });

  it('is refused with results or metadata that are not plain data', () => {
    const circle: Record<string, unknown> = {};
    circle['again'] = circle;
    expect(thrownBy(withResult(10n))).to.match(/a bigint in `results\.s\.value`/);
    expect(thrownBy(withResult(() => 1))).to.match(/a function in/);
    expect(thrownBy(withResult([Symbol('x')]))).to.match(/a symbol in `results\.s\.value\.0`/);
    expect(thrownBy(withResult(circle))).to.match(/circular reference in `results\.s\.value\.again`/);
    expect(thrownBy({ ...given, meta: { n: 1n } })).to.match(/a bigint in `meta\.n`/);
    for (const value of [undefined, null, [], 'text']) {
      expect(thrownBy({ ...given, results: value })).to.match(/`results` is no object/);
      expect(thrownBy({ ...given, meta: value })).to.match(/`meta` is no object/);
      expect(thrownBy({ ...given, results: { classes: value } })).to.match(
        /result of `classes` is no object/,
      );
    }
    // Put into the frame that was given.
    const changed = { ...given, results: { s: { kind: 'test', value: 10n } } } as unknown as Frame;
    expect(() => checkMade(changed, changed)).to.throw('a bigint in `results.s.value`');
    // The same value twice is no circle.
    expect(thrownBy(withResult([given.meta, given.meta]))).to.equal('');
  });
});
