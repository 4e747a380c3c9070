import type { Evaluation } from '../evaluation/evaluate.js';
import type { Intervals } from '../evaluation/figures.js';
import { figure, range } from './elements.js';
import { html, type Html } from './html.js';

/** The result in one sentence. */
export function sentence({ kind, figures }: Evaluation): string {
  const binary = figures.binary;
  if (binary?.sensitivity != null && binary.specificity !== null) {
    const found = Math.round(100 * binary.sensitivity);
    const alarms = Math.round(100 * (1 - binary.specificity));
    const which =
      kind === 'classifier' && figures.balancedAccuracy !== null && Object.keys(figures.perClass).length > 2
        ? ` It names the exact class of ${Math.round(100 * figures.balancedAccuracy)} of 100 films, with all classes weighted equally.`
        : '';
    return (
      `Of 100 films that are not “${binary.normal}”, this model detects ${found} and misses ${100 - found}; ` +
      `of 100 “${binary.normal}” films it raises a false alarm on ${alarms}.${which}`
    );
  }
  if (kind === 'classifier' && figures.accuracy !== null) {
    return `Of 100 films, this model names the right class for ${Math.round(100 * figures.accuracy)}.`;
  }
  return 'All of these films are of one kind, so sensitivity and specificity cannot be measured.';
}

export function tiles({ kind, figures }: Evaluation): Html {
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

export function classCounts({ films }: Evaluation): string {
  const counts = new Map<string, number>();
  for (const film of films) counts.set(film.class, (counts.get(film.class) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} ${name}`).join(', ');
}
