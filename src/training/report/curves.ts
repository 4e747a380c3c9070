import type { Bundle } from '../../models/bundle.js';
import { reliability } from '../evaluation/calibrate.js';
import { scoresOf, uncalibrated } from '../evaluation/classifier-figures.js';
import type { Evaluation } from '../evaluation/evaluate.js';
import { rank } from '../evaluation/ranking.js';
import {
  histogram,
  learningCharts,
  precisionRecallChart,
  reliabilityChart,
  rocChart,
  scatter,
} from './charts.js';
import { chartCard, figure } from './elements.js';
import { html, type Html } from './html.js';
import type { Findings } from './report.js';

export async function curveSection(evaluation: Evaluation): Promise<Html> {
  const rankings = rankingsOf(evaluation);
  const charts: [string, object, string?][] = [];
  if (Object.keys(rankings).length > 0) {
    charts.push(['ROC', rocChart(rankings)], ['Precision and recall', precisionRecallChart(rankings)]);
  }
  const binary = evaluation.said.binary;
  if (binary !== null) {
    const scores = scoresFor(evaluation);
    charts.push([
      'Scores',
      histogram(
        scores,
        evaluation.films.map((film) => film.class),
        binary.threshold,
        evaluation.kind === 'classifier' ? `1 − P(${binary.normal})` : 'Anomaly score',
      ),
      'The dashed line is the threshold.',
    ]);
  }
  if (evaluation.kind === 'classifier' && evaluation.figures.ece !== null) {
    const { said, figures } = evaluation;
    const after = reliability(said.probabilities, said.truth);
    const bins: Record<string, typeof after> =
      said.temperature === 1
        ? { 'as it is': after }
        : { uncalibrated: reliability(uncalibrated(said), said.truth), calibrated: after };
    charts.push([
      'Reliability',
      reliabilityChart(bins),
      said.temperature === 1
        ? `Expected calibration error ${figure(figures.ece)}. The bundle has no calibration.`
        : `Expected calibration error ${figure(figures.eceUncalibrated)} before and ${figure(figures.ece)} after temperature scaling (T = ${figure(said.temperature)}, fitted on the validation films of the training).`,
    ]);
  }
  return html`<h2>Curves</h2>
    <div class="grid">${await Promise.all(charts.map((each) => chartCard(...each)))}</div>`;
}

export async function learningSection({ training }: Bundle): Promise<Html | null> {
  if (!Array.isArray(training.history) || training.history.length < 2) return null;
  const charts = learningCharts(training.history as Record<string, unknown>[]);
  const cards = charts.map(({ title, spec }) => chartCard(title, spec));
  return html`<h2>Training</h2>
    ${typeof training.bestEpoch === 'number' ? html`<p>The saved model is from epoch ${training.bestEpoch}.</p>` : null}
    <div class="grid">${await Promise.all(cards)}</div>`;
}

export async function embeddingSection({ evaluation, explanation }: Findings): Promise<Html | null> {
  if (explanation.embeddings.length === 0) return null;
  const cards = explanation.embeddings.map(({ name, films, points }) =>
    chartCard(
      name,
      scatter(
        points,
        films.map((film) => evaluation.films[film]?.class ?? ''),
      ),
    ),
  );
  return html`<h2>Feature space</h2>
    <p>
      Films with similar features are close together. The axes have no meaning, and neither do distances
      between far groups.
    </p>
    <div class="grid">${await Promise.all(cards)}</div>`;
}

function rankingsOf(evaluation: Evaluation): Record<string, ReturnType<typeof rank>> {
  const { binary } = evaluation.said;
  const all: [string, ReturnType<typeof rank>][] = [];
  if (binary?.abnormal.includes(true) === true && binary.abnormal.includes(false)) {
    all.push([`not ${binary.normal}`, rank(scoresFor(evaluation), binary.abnormal)]);
  }
  if (evaluation.kind === 'classifier' && evaluation.figures.accuracy !== null) {
    const { labels, probabilities, truth } = evaluation.said;
    labels.forEach((label, i) => {
      const mine = truth.map((index) => index === i);
      if (!mine.includes(true) || !mine.includes(false)) return;
      all.push([
        label,
        rank(
          probabilities.map((row) => row[i] ?? 0),
          mine,
        ),
      ]);
    });
  }
  return Object.fromEntries(all);
}

function scoresFor(evaluation: Evaluation): readonly number[] {
  return evaluation.kind === 'anomaly'
    ? evaluation.said.scores
    : scoresOf(evaluation.said, evaluation.said.binary?.normal ?? '');
}
