import { expect } from 'chai';
import type { FoundBox } from '../../../src/core/frame.js';
import {
  bestThreshold,
  detectionFigures,
  type DetectedFilm,
} from '../../../src/training/evaluation/detection-figures.js';

const box = (x: number) => ({ x, y: 0, width: 10, height: 10, label: 'opacity' });
const found = (x: number, score: number): FoundBox => ({ ...box(x), score });

describe('figures of boxes', () => {
  /** Four boxes, of which three are found; false alarms at 0.85 and 0.3. */
  const films: DetectedFilm[] = [
    { truth: [box(0), box(50)], found: [found(1, 0.9), found(51, 0.8), found(100, 0.3)] },
    { truth: [box(20)], found: [found(21, 0.7), found(70, 0.85)] },
    { truth: [box(0)], found: [] },
    { truth: [], found: [] },
  ];

  it('reads the FROC curve at so many false positives per film', () => {
    const { froc, sensitivityAt1, boxes } = detectionFigures(films, ['opacity']);
    expect(boxes).to.equal(4);
    const at = new Map(froc.map(({ falsePositives, sensitivity }) => [falsePositives, sensitivity]));
    expect(at.get(0.125), 'none is allowed').to.equal(0.25);
    expect(at.get(0.25), 'one is allowed').to.equal(0.75);
    expect(sensitivityAt1).to.equal(0.75);
  });

  it('counts the second box on one object as a false alarm', () => {
    const twice = [{ truth: [box(0)], found: [found(0, 0.9), found(1, 0.95)] }];
    const figures = detectionFigures(twice, ['opacity']);
    expect(figures.map50).to.be.closeTo(1, 1e-12);
    expect(figures.froc[0]?.sensitivity).to.equal(1);
    expect(detectionFigures([{ truth: [box(0)], found: [] }], ['opacity']).map50).to.equal(0);
  });

  it('has intervals, in which a film that is not drawn does not count', () => {
    const resamples = [
      [1, 1, 1, 1],
      [2, 2, 0, 0],
      [0, 0, 2, 2],
    ];
    const { intervals, map50 } = detectionFigures(films, ['opacity'], resamples);
    const [low, high] = intervals.map50 ?? [];
    expect(low).to.equal(0);
    expect(high).to.be.above(map50 ?? NaN);
  });

  it('has no figure of a label without boxes', () => {
    const figures = detectionFigures(films, ['mass', 'opacity']);
    expect(figures.perLabel.mass).to.equal(null);
    expect(figures.map50).to.equal(figures.perLabel.opacity);
    expect(detectionFigures([{ truth: [], found: [found(0, 1)] }], ['mass']).map50).to.equal(null);
  });

  it('chooses the score from which boxes count by F1', () => {
    expect(bestThreshold(films, 'opacity')).to.be.closeTo(0.5, 1e-9);
    expect(bestThreshold([{ truth: [], found: [] }], 'opacity')).to.equal(0.5);
  });
});
