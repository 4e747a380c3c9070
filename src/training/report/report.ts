import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Anomaly, Image } from '../../core/frame.js';
import type { Bundle } from '../../models/bundle.js';
import type { AnomalyFigures } from '../evaluation/anomaly-figures.js';
import type { BinaryFigures } from '../evaluation/binary-figures.js';
import { reliability } from '../evaluation/calibrate.js';
import {
  scoresOf,
  uncalibrated,
  type ClassifiedFilms,
  type ClassifierFigures,
} from '../evaluation/classifier-figures.js';
import type { Evaluation } from '../evaluation/evaluate.js';
import type { Explanation } from '../evaluation/explain.js';
import type { Intervals } from '../evaluation/figures.js';
import { rank } from '../evaluation/ranking.js';
import {
  chart,
  histogram,
  learningCharts,
  precisionRecallChart,
  reliabilityChart,
  rocChart,
  scatter,
} from './charts.js';
import { Html, html, page } from './html.js';
import { heat, overlay, picture } from './pictures.js';

/** What the report shows besides the evaluation itself. */
export interface Findings {
  readonly evaluation: Evaluation;
  readonly bundle: Bundle;
  readonly explanation: Explanation;
  /** The command that repeats it. */
  readonly command: string;
  readonly rxray: string;
}

/** Writes `report.html`, one self-contained page, and the same numbers as `report.json`. */
export async function writeReport(dir: string, findings: Findings, summary: object): Promise<void> {
  const { evaluation, explanation } = findings;
  const { gradCam, embeddings, ...left } = explanation;
  const json = {
    ...summary,
    shortcuts: evaluation.shortcuts,
    groups: evaluation.groups,
    explained: {
      ...left,
      gradCam: gradCam?.films ?? [],
      embeddings: embeddings.map(({ name, films, points }) => ({ name, films, points })),
    },
  };
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'report.json'), `${JSON.stringify(json, null, 2)}\n`);
  await writeFile(
    join(dir, 'report.html'),
    page(`${findings.bundle.name}: evaluation`, await body(findings)),
  );
}

async function body(findings: Findings): Promise<Html> {
  const { evaluation, bundle, command, rxray } = findings;
  const { figures, split, bootstrap, unreadable } = evaluation;
  const curves = await curveSection(evaluation);
  const confusion = evaluation.kind === 'classifier' ? confusionSection(evaluation.figures) : null;
  return html`
    <h1>${bundle.name}</h1>
    <p class="muted">
      Evaluation on ${figures.n}
      films${split === 'all' ? '' : ` of the split “${split}”`}${
        unreadable.length === 0 ? '' : ` (${unreadable.length} more could not be read)`
      },
      ${new Date().toISOString().slice(0, 10)}
    </p>
    <p class="warning">Not a medical device: for research, never for diagnosis.</p>
    <p class="lead">${sentence(evaluation)}</p>
    ${tiles(evaluation)} ${baselineSection(evaluation)} ${confusion} ${curves} ${shortcutSection(evaluation)}
    ${groupSection(evaluation)} ${await mistakeSection(findings)} ${await explanationSection(findings)}
    ${await embeddingSection(findings)} ${await learningSection(bundle)} ${unreadableSection(unreadable)}
    <h2>How it was done</h2>
    <div class="card">
      <dl>
        <dt>Command</dt>
        <dd><code>${command}</code></dd>
        <dt>Model</dt>
        <dd>
          ${bundle.name}, ${bundle.kind}, made ${bundle.createdAt.slice(0, 10)}; weights ${bundle.license}
        </dd>
        <dt>Trained on</dt>
        <dd>${bundle.data.name} (${bundle.data.license}). ${bundle.data.source}</dd>
        <dt>Preprocessing</dt>
        <dd>
          ${bundle.preprocessing.map(({ use }) => use).join(' → ')},
          ${bundle.input.width}×${bundle.input.height}
        </dd>
        <dt>Intervals</dt>
        <dd>
          95 %, percentile bootstrap, ${bootstrap.resamples} samples of
          ${bootstrap.unit === 'patient' ? 'patients: all films of one come together' : 'films (patients are not known: the true intervals are wider)'},
          seed ${bootstrap.seed}
        </dd>
        <dt>Films</dt>
        <dd>${classCounts(evaluation)}</dd>
      </dl>
    </div>
    <footer>
      Made by rxray ${rxray}. The same numbers lie beside this page as report.json. This is no medical device:
      it must not be used to diagnose or treat anybody.
    </footer>
  `;
}

/** What a doctor wants to know first. */
function sentence({ kind, figures }: Evaluation): string {
  const binary = figures.binary;
  if (binary?.sensitivity != null && binary.specificity !== null) {
    const found = Math.round(100 * binary.sensitivity);
    const alarms = Math.round(100 * (1 - binary.specificity));
    const which =
      kind === 'classifier' && figures.balancedAccuracy !== null && Object.keys(figures.perClass).length > 2
        ? ` Asked for the exact class, it is right for ${Math.round(100 * figures.balancedAccuracy)} of 100 films, each class counted alike.`
        : '';
    return (
      `Of 100 films that are not “${binary.normal}”, this model notices ${found} and misses ${100 - found}; ` +
      `of 100 “${binary.normal}” films it raises a false alarm on ${alarms}.${which}`
    );
  }
  if (kind === 'classifier' && figures.accuracy !== null) {
    return `Of 100 films, this model names the right class for ${Math.round(100 * figures.accuracy)}.`;
  }
  return 'These films are all of one kind: how well the model tells kinds apart cannot be said from them.';
}

function tiles({ kind, figures }: Evaluation): Html {
  const binary = figures.binary;
  const rows: [string, number | null, Intervals, string, string?][] = [];
  if (binary !== null) {
    const against = `${binary.normal} against the rest`;
    rows.push(
      ['AUROC', binary.auroc, binary.intervals, 'auroc', against],
      ['AUPR', binary.aupr, binary.intervals, 'aupr', against],
      [
        'Accuracy',
        binary.accuracy,
        binary.intervals,
        'accuracy',
        `${against}, at ${figure(binary.threshold)}`,
      ],
      ['Sensitivity', binary.sensitivity, binary.intervals, 'sensitivity', 'at the threshold'],
      ['Specificity', binary.specificity, binary.intervals, 'specificity', 'at the threshold'],
      [
        'Sensitivity at 95 % specificity',
        binary.sensitivityAt95Specificity,
        binary.intervals,
        'sensitivityAt95Specificity',
      ],
    );
  }
  if (kind === 'classifier') {
    rows.push(
      ['Balanced accuracy', figures.balancedAccuracy, figures.intervals, 'balancedAccuracy', 'all classes'],
      ['AUROC', figures.auroc, figures.intervals, 'auroc', 'mean over the classes'],
      ['Calibration error', figures.ece, figures.intervals, 'ece', 'ECE, 10 bins'],
    );
  }
  const time =
    kind === 'anomaly'
      ? html`<div class="tile">
          <span>Time</span><b>${figures.msPerFilm.toFixed(1)} ms</b><span>per film</span>
        </div>`
      : null;
  const all = rows
    .filter(([, value]) => value !== null)
    .map(
      ([name, value, intervals, key, detail]) =>
        html`<div class="tile">
          <span>${name}</span><b>${figure(value)}</b><span>${range(intervals, key)}</span
          ><span>${detail ?? ''}</span>
        </div>`,
    );
  return html`<div class="tiles">${all}${time}</div>
    <p class="note">
      ${binary === null ? '' : `The threshold is ${figure(binary.threshold)}: ${binary.thresholdFrom}.`}
      Ranges are 95 % intervals.
    </p>`;
}

/** What each simpler score is called. */
const BASELINES: Readonly<Record<string, string>> = {
  pca: 'Reconstruction error of a PCA of normal films',
  discriminator: 'The discriminator alone',
};

function baselineSection({ kind, figures }: Evaluation): Html | null {
  if (kind === 'classifier' || Object.keys(figures.baselines).length === 0) return null;
  const own = html`<tr>
    <td>This model</td>
    <td>${figure(figures.auroc)} <small>${range(figures.intervals, 'auroc')}</small></td>
  </tr>`;
  const rows = Object.entries(figures.baselines).map(
    ([name, { auroc, interval }]) =>
      html`<tr>
        <td>${BASELINES[name] ?? name}</td>
        <td>${figure(auroc)} <small>${range({ auroc: interval }, 'auroc')}</small></td>
      </tr>`,
  );
  return html`<h2>For comparison</h2>
    <p>Simpler scores of the same films. A model that does not beat them has learnt nothing.</p>
    ${table(['score', 'AUROC'], [own, ...rows])}`;
}

function confusionSection(figures: ClassifierFigures): Html | null {
  const { labels, confusion, perClass } = figures;
  if (confusion.length === 0) return null;
  const rows = confusion.map((counts, i) => {
    const films = counts.reduce((a, b) => a + b, 0);
    const cells = counts.map((count) => {
      const share = films === 0 ? 0 : count / films;
      return html`<td class="cell" style="--share:${(0.75 * share).toFixed(2)}">
        ${count} <small>${percent(share)}</small>
      </td>`;
    });
    return html`<tr>
      <th>${labels[i] ?? ''}</th>
      ${cells}
      <td>${films}</td>
    </tr>`;
  });
  const classes = Object.entries(perClass).map(
    ([name, each]) =>
      html`<tr>
        <td>${name}</td>
        <td>${each.n}</td>
        ${(['recall', 'precision', 'auroc', 'aupr'] as const).map(
          (key) => html`<td>${figure(each[key])} <small>${range(each.intervals, key)}</small></td>`,
        )}
      </tr>`,
  );
  return html`<h2>Confusion matrix</h2>
    <p>Each row is what the films are, each column what the model calls them.</p>
    <div class="stack">
      <div class="card scroll confusion">
        <table>
          <thead>
            <tr>
              <th>is ↓ called →</th>
              ${labels.map((label) => html`<th>${label}</th>`)}
              <th>films</th>
            </tr>
          </thead>
          <tbody>
            ${rows}
          </tbody>
        </table>
      </div>
      ${table(['class', 'films', 'recall', 'precision', 'AUROC', 'AUPR'], classes)}
    </div>`;
}

async function curveSection(evaluation: Evaluation): Promise<Html> {
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

async function chartCard(title: string, spec: object, note?: string): Promise<Html> {
  return html`<div class="card chart">
    <h3>${title}</h3>
    ${new Html(await chart(spec))} ${note === undefined ? null : html`<p class="note">${note}</p>`}
  </div>`;
}

function shortcutSection({ figures, shortcuts }: Evaluation): Html | null {
  if (shortcuts.length === 0) return null;
  return html`<h2>Does it look at the lungs?</h2>
    <p>
      The same films with a part of them black. What the model still knows without the centre, it reads off
      the border: markers, collimation, the shape of the film. Figures that stay high there are a warning.
    </p>
    ${figureTable('films', [{ name: 'as they are', figures }, ...shortcuts])}`;
}

function groupSection({ groups }: Evaluation): Html | null {
  if (groups.length === 0) return null;
  const rows = groups.map(({ column, value, figures }) => ({ name: `${column}: ${value}`, figures }));
  return html`<h2>Groups</h2>
    <p>By what the manifest says of the films. Small groups say little: mind the counts.</p>
    ${figureTable('group', rows)}`;
}

function figureTable(
  head: string,
  rows: readonly { readonly name: string; readonly figures: ClassifierFigures | AnomalyFigures }[],
): Html {
  const classifier = rows.some(({ figures }) => 'perClass' in figures);
  const cells = (figures: ClassifierFigures | AnomalyFigures): (number | null)[] => {
    const binary: BinaryFigures | null = figures.binary;
    return [
      ...('perClass' in figures ? [figures.balancedAccuracy, figures.auroc] : []),
      binary?.auroc ?? null,
      binary?.sensitivity ?? null,
      binary?.specificity ?? null,
    ];
  };
  return table(
    [
      ...[head, 'films'],
      ...(classifier ? ['balanced accuracy', 'AUROC, mean'] : []),
      ...['AUROC, normal or not', 'sensitivity', 'specificity'],
    ],
    rows.map(
      ({ name, figures }) =>
        html`<tr>
          <td>${name}</td>
          <td>${figures.n}</td>
          ${cells(figures).map((value) => html`<td>${figure(value)}</td>`)}
        </tr>`,
    ),
  );
}

/** A table in a card of its own. */
function table(head: readonly string[], rows: readonly Html[]): Html {
  return html`<div class="card scroll">
    <table>
      <thead>
        <tr>
          ${head.map((text) => html`<th>${text}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
  </div>`;
}

function unreadableSection(unreadable: Evaluation['unreadable']): Html | null {
  if (unreadable.length === 0) return null;
  return html`<h2>Films that could not be read</h2>
    <p>They are in none of the figures.</p>
    ${table(
      ['film', 'reason'],
      unreadable.map(
        ({ film, reason }) =>
          html`<tr>
            <td>${film}</td>
            <td>${reason}</td>
          </tr>`,
      ),
    )}`;
}

/** How many pictures of a kind the page shows. */
const MISTAKES = 12;
const EXAMPLES = 8;

/** The films that the page wants a Grad-CAM map of: its worst mistakes, and some that the model is right on. */
export function filmsToExplain(evaluation: Evaluation): number[] {
  if (evaluation.kind !== 'classifier') return [];
  const { said } = evaluation;
  const right = said.truth.flatMap((truth, film) => (truth === top(said, film) ? [film] : []));
  const examples = said.labels.flatMap((_, label) =>
    right.filter((film) => said.truth[film] === label).slice(0, Math.ceil(EXAMPLES / said.labels.length)),
  );
  return [...worstMistakes(evaluation, MISTAKES).map(({ film }) => film), ...examples];
}

async function mistakeSection(findings: Findings): Promise<Html | null> {
  const { evaluation, explanation } = findings;
  const { images } = evaluation;
  const worst = worstMistakes(evaluation, MISTAKES);
  if (worst.length === 0) return null;
  const cards = worst.map(async ({ film, said }) => {
    const image = images[film] as Image;
    const map = explanation.gradCam?.maps.get(film);
    const result = evaluation.results[film] as Anomaly;
    const residual = residualOf(result);
    const second =
      map !== undefined
        ? await overlay(image, map)
        : residual === undefined
          ? undefined
          : await heat(residual);
    return html`<figure>
      <div class="pair">
        <img src="${await picture(image)}" alt="film" />${
          second === undefined ? null : html`<img src="${second}" alt="what the model looked at" />`
        }
      </div>
      <figcaption>${evaluation.films[film]?.name ?? ''}<br />${said}</figcaption>
    </figure>`;
  });
  return html`<h2>The worst mistakes</h2>
    <p>The films on which the model was surest and wrong, as it sees them.</p>
    <div class="films">${await Promise.all(cards)}</div>`;
}

async function explanationSection({ evaluation, explanation }: Findings): Promise<Html | null> {
  const { images } = evaluation;
  if (evaluation.kind === 'anomaly') {
    const shown = extremes(evaluation.said.scores, 4).filter((film) =>
      residualOf(evaluation.results[film] as Anomaly),
    );
    if (shown.length === 0) return null;
    const cards = shown.map(async (film) => {
      const result = evaluation.results[film] as Anomaly;
      const reconstruction = result.reconstruction as Image | undefined;
      return html`<figure>
        <div class="pair">
          <img src="${await picture(images[film] as Image)}" alt="film" />${
            reconstruction === undefined
              ? null
              : html`<img src="${await picture(reconstruction)}" alt="reconstruction" />`
          }<img src="${await heat(residualOf(result) as Image)}" alt="residual" />
        </div>
        <figcaption>
          ${evaluation.films[film]?.name ?? ''}<br />is ${evaluation.films[film]?.class ?? ''}, score
          ${figure(evaluation.said.scores[film] ?? null)}
        </figcaption>
      </figure>`;
    });
    return html`<h2>What it compares</h2>
      <p>
        The film, what the model makes of it where it can, and where they differ: the most anomalous films,
        then the least.
      </p>
      <div class="films">${await Promise.all(cards)}</div>`;
  }
  const { gradCam } = explanation;
  if (gradCam === null) {
    return html`<h2>Where it looks</h2>
      <p class="note">No Grad-CAM: ${explanation.withoutGradCam ?? ''}.</p>`;
  }
  const right = gradCam.films.filter((film) => evaluation.said.truth[film] === top(evaluation.said, film));
  const cards = right.map(async (film) => {
    const map = gradCam.maps.get(film);
    const image = images[film] as Image;
    return html`<figure>
      <div class="pair">
        <img src="${await picture(image)}" alt="film" />${
          map === undefined ? null : html`<img src="${await overlay(image, map)}" alt="Grad-CAM" />`
        }
      </div>
      <figcaption>
        ${evaluation.films[film]?.name ?? ''}<br />rightly called
        ${evaluation.said.labels[top(evaluation.said, film)] ?? ''}
      </figcaption>
    </figure>`;
  });
  return html`<h2>Where it looks</h2>
    <p>
      Grad-CAM (Selvaraju et al. 2017, as LayerCAM, Jiang et al. 2021): what in the film speaks for the class
      that the model names, from yellow to red. These are films that it is right on; it says where, not
      whether that is a good reason.
    </p>
    <div class="films">${await Promise.all(cards)}</div>`;
}

async function embeddingSection({ evaluation, explanation }: Findings): Promise<Html | null> {
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
  return html`<h2>How it sorts the films</h2>
    <p>
      Films that the model's features make alike lie close together. Distances between far groups mean
      nothing, and neither do the axes.
    </p>
    <div class="grid">${await Promise.all(cards)}</div>`;
}

async function learningSection({ training }: Bundle): Promise<Html | null> {
  if (!Array.isArray(training.history) || training.history.length < 2) return null;
  const charts = learningCharts(training.history as Record<string, unknown>[]);
  const cards = charts.map(({ title, spec }) => chartCard(title, spec));
  return html`<h2>How it learnt</h2>
    ${typeof training.bestEpoch === 'number' ? html`<p>The saved model is from epoch ${training.bestEpoch}.</p>` : null}
    <div class="grid">${await Promise.all(cards)}</div>`;
}

/** Films that the model was surest and wrong on. */
function worstMistakes(
  evaluation: Evaluation,
  count: number,
): { readonly film: number; readonly said: string }[] {
  if (evaluation.kind === 'classifier') {
    const { said } = evaluation;
    return said.truth
      .map((truth, film) => ({ film, truth, called: top(said, film) }))
      .filter(({ truth, called }) => truth >= 0 && called !== truth)
      .map(({ film, truth, called }) => ({
        film,
        sure: said.probabilities[film]?.[called] ?? 0,
        said: `is ${said.labels[truth] ?? ''}, called ${said.labels[called] ?? ''} (${percent(said.probabilities[film]?.[called] ?? 0)})`,
      }))
      .sort((a, b) => b.sure - a.sure)
      .slice(0, count);
  }
  const { scores, binary } = evaluation.said;
  const order = [...rank(scores, binary.abnormal).order];
  const alarms = order.filter((film) => binary.abnormal[film] === false).slice(0, count / 2);
  const missed = order
    .reverse()
    .filter((film) => binary.abnormal[film] === true)
    .slice(0, count / 2);
  return [...alarms, ...missed].map((film) => ({
    film,
    said: `is ${evaluation.films[film]?.class ?? ''}, score ${figure(scores[film] ?? null)}`,
  }));
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

function top({ probabilities }: ClassifiedFilms, film: number): number {
  const row = probabilities[film] ?? [];
  return row.indexOf(Math.max(...row));
}

/** The highest scores and the lowest, `count` of each. */
function extremes(scores: readonly number[], count: number): number[] {
  const order = [...scores.keys()].sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0));
  return order.length <= 2 * count ? order : [...order.slice(0, count), ...order.slice(-count)];
}

/** The map that an anomaly stage gives: of a generator the residual, of a memory the distances. */
function residualOf(result: Anomaly): Image | undefined {
  return (result.residual ?? result.map) as Image | undefined;
}

function classCounts({ films }: Evaluation): string {
  const counts = new Map<string, number>();
  for (const film of films) counts.set(film.class, (counts.get(film.class) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} ${name}`).join(', ');
}

function figure(value: number | null): string {
  return value === null || !Number.isFinite(value) ? '–' : value.toFixed(3);
}

function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

function range(intervals: Intervals, name: string): string {
  const found = intervals[name];
  return found == null ? '' : `${found[0].toFixed(3)}–${found[1].toFixed(3)}`;
}
