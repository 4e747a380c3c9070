import { expect } from 'chai';
import { classifierFigures, type ClassifiedFilms } from '../../src/training/evaluation/classifier-figures.js';
import { anomalyFigures, type ScoredFilms } from '../../src/training/evaluation/anomaly-figures.js';
import { shiftFigures, suiteOf } from '../../src/training/evaluation/shifts.js';
import { binaryFigures } from '../../src/training/evaluation/binary-figures.js';
import type { Evaluation } from '../../src/training/evaluation/evaluate.js';
import { filmsToExplain } from '../../src/training/report/films.js';
import { classCounts, sentence, tiles } from '../../src/training/report/summary.js';
import {
  baselineSection,
  confusionSection,
  groupSection,
  shiftSection,
  unreadableSection,
} from '../../src/training/report/tables.js';

/** Two of three healthy films and one of two cloudy films are classified correctly; the first mistake is the surest. */
const CLASSIFIED: ClassifiedFilms = {
  labels: ['normal', 'cloudy'],
  truth: [0, 0, 0, 1, 1],
  probabilities: [
    [0.8, 0.2],
    [0.05, 0.95],
    [0.7, 0.3],
    [0.6, 0.4],
    [0.2, 0.8],
  ],
  temperature: 1,
  binary: {
    normal: 'normal',
    abnormal: [false, false, false, true, true],
    threshold: 0.5,
    thresholdFrom: "the bundle's",
  },
};
const SCORED: ScoredFilms = {
  scores: [1, 2, 3, 4],
  binary: { normal: 'normal', abnormal: [false, false, true, true], threshold: 2.5, thresholdFrom: 'test' },
  msPerFilm: 12.34,
  baselines: { pca: [4, 3, 2, 1] },
};
const films = (classes: readonly string[]) => classes.map((each, i) => ({ name: `${i}.png`, class: each }));
const classified = {
  kind: 'classifier',
  films: films(['normal', 'normal', 'normal', 'cloudy', 'cloudy']),
  said: CLASSIFIED,
  figures: classifierFigures(CLASSIFIED),
  groups: [{ column: 'view', value: 'PA <1>', figures: classifierFigures(CLASSIFIED) }],
} as unknown as Evaluation & { kind: 'classifier' };
const scored = {
  kind: 'anomaly',
  films: films(['normal', 'normal', 'cloudy', 'cloudy']),
  said: SCORED,
  figures: anomalyFigures(SCORED),
  groups: [],
} as unknown as Evaluation;

/** The text of the cells, row by row. */
function cells(section: { readonly text: string } | null): string[][] {
  return (section?.text ?? '')
    .split('<tr>')
    .slice(1)
    .map((row) =>
      [...row.matchAll(/<t[dh][^>]*>([\s\S]*?)<\/t[dh]>/g)].map(([, cell = '']) =>
        cell
          .replaceAll(/<[^>]*>/g, ' ')
          .replaceAll(/\s+/g, ' ')
          .trim(),
      ),
    );
}

describe('the evaluation report', () => {
  it('begins with the result for 100 films', () => {
    expect(sentence(classified)).to.equal(
      'Of 100 films that are not “normal”, this model detects 50 and misses 50; ' +
        'of 100 “normal” films it raises a false alarm on 33.',
    );
    const oneKind = { ...SCORED, binary: { ...SCORED.binary, abnormal: [false, false, false, false] } };
    expect(sentence({ ...scored, figures: anomalyFigures(oneKind) } as Evaluation)).to.include('of one kind');
  });

  it('shows each figure that there is, and the time of an anomaly model', () => {
    expect(tiles(classified).text).to.include('<span>Sensitivity</span><b>0.500</b>');
    expect(tiles(classified).text).to.include('<span>Balanced accuracy</span><b>0.583</b>');
    expect(tiles(classified).text).to.not.include('ms');
    expect(tiles(scored).text).to.include('<b>12.3 ms</b>');
    expect(tiles(scored).text).to.include('The threshold is 2.500: test.');
    expect(classCounts(classified)).to.equal('3 normal, 2 cloudy');
  });

  it('counts true classes by predicted ones', () => {
    expect(cells(confusionSection(classified.figures)).slice(0, 3)).to.deep.equal([
      ['true ↓ predicted →', 'normal', 'cloudy', 'films'],
      ['normal', '2 67 %', '1 33 %', '3'],
      ['cloudy', '1 50 %', '1 50 %', '2'],
    ]);
  });

  it('compares an anomaly model with simpler scores', () => {
    expect(cells(baselineSection(scored))).to.deep.equal([
      ['score', 'AUROC'],
      ['This model', '1.000'],
      ['Reconstruction error of a PCA of normal films', '0.000'],
    ]);
    expect(baselineSection(classified)).to.equal(null);
  });

  it('has a row for each shift, and says which one is the worst of each figure', () => {
    const question = { normal: 'normal', threshold: 2.5, thresholdFrom: 'test' };
    const figures = binaryFigures([1, 2, 3, 4], { ...question, abnormal: [false, true, false, true] });
    const suite = suiteOf([
      shiftFigures('contrast × 0.5', figures, { ece: 0.25, balancedAccuracy: 0.5, intervals: {} }),
      shiftFigures('blur', figures, { ece: 0.125, balancedAccuracy: 0.5, intervals: {} }),
    ]);
    expect(cells(shiftSection({ ...classified, suite })).slice(1)).to.deep.equal([
      ['contrast × 0.5', '0.750', '0.500', '0.500', '0.250', 'AUROC, specificity, calibration error'],
      ['blur', '0.750', '0.500', '0.500', '0.125', ''],
    ]);
    expect(shiftSection(classified)).to.equal(null);
  });

  it('lists groups and unreadable films as text, and nothing where there are none', () => {
    expect(groupSection(classified)?.text).to.include('view: PA &lt;1&gt;');
    expect(groupSection(scored)).to.equal(null);
    expect(cells(unreadableSection([{ film: 'a.png', reason: 'it is empty' }]))[1]).to.deep.equal([
      'a.png',
      'it is empty',
    ]);
    expect(unreadableSection([])).to.equal(null);
  });

  it('explains the most confident mistakes first, then correct films of every class', () => {
    expect(filmsToExplain(classified)).to.deep.equal([1, 3, 0, 2, 4]);
    expect(filmsToExplain(scored)).to.deep.equal([]);
  });
});
