import type { ClassifierFigures } from '../evaluation/classifier-figures.js';
import type { Evaluation } from '../evaluation/evaluate.js';
import type { LungEnergy } from '../evaluation/lung-energy.js';
import { figure, figureTable, percent, range, table } from './elements.js';
import { html, type Html } from './html.js';

/** What each simpler score is called. */
const BASELINES: Readonly<Record<string, string>> = {
  pca: 'Reconstruction error of a PCA of normal films',
  discriminator: 'The discriminator alone',
};

export function baselineSection({ kind, figures }: Evaluation): Html | null {
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
  return html`<h2>Baselines</h2>
    <p>Simpler scores of the same films. A model should be better than these.</p>
    ${table(['score', 'AUROC'], [own, ...rows])}`;
}

/** The figures on films that were altered as other machines would produce them (`--shifts`). */
export function shiftSection({ suite }: Evaluation): Html | null {
  if (suite === undefined) return null;
  const worst = (shift: string): string =>
    (['auroc', 'specificity', 'ece'] as const)
      .filter((key) => suite.worst[key]?.shift === shift)
      .map((key) => WORST[key])
      .join(', ');
  const rows = suite.shifts.map(
    (shift) =>
      html`<tr>
        <td>${shift.name}</td>
        ${(['auroc', 'sensitivity', 'specificity', 'ece'] as const).map(
          (key) => html`<td>${figure(shift[key])} <small>${range(shift.intervals, key)}</small></td>`,
        )}
        <td>${worst(shift.name)}</td>
      </tr>`,
  );
  return html`<h2>Films from other sources</h2>
    <p>The same films, altered as other machines would produce them.</p>
    ${table(['shift', 'AUROC', 'sensitivity', 'specificity', 'calibration error', 'worst'], rows)}`;
}

/** What the worst figures of a suite are called. */
const WORST = { auroc: 'AUROC', specificity: 'specificity', ece: 'calibration error' } as const;

export function confusionSection(figures: ClassifierFigures): Html | null {
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
    <p>Rows are true classes, columns are predicted classes.</p>
    <div class="stack">
      <div class="card scroll confusion">
        <table>
          <thead>
            <tr>
              <th>true ↓ predicted →</th>
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

export function shortcutSection({ figures, shortcuts, lungEnergy }: Evaluation): Html | null {
  if (shortcuts.length === 0) return null;
  return html`<h2>Shortcuts</h2>
    <p>
      The same films with a part of them black. Figures that stay high without the lungs are a warning: the
      model then decides by something else, such as markers, collimation or the film's shape.
    </p>
    ${figureTable('films', [{ name: 'as they are', figures }, ...shortcuts])}
    ${lungEnergy === undefined ? null : energyTable(lungEnergy)}`;
}

function energyTable({ films, masks, implausible, intervals, ...of }: LungEnergy): Html {
  const cells = (['energy', 'area', 'ratio'] as const).map(
    (key) => html`<td>${figure(of[key])} <small>${range(intervals, key)}</small></td>`,
  );
  const found =
    masks === 'given'
      ? 'given'
      : `found by ${masks}${implausible === 0 ? '' : `, not plausible on ${String(implausible)} films`}`;
  return html`<p>
      Where the evidence for the predicted class is (Grad-CAM): its share inside the lungs, beside the lungs’
      share of the film, which evidence spread evenly would have.
    </p>
    ${table(
      ['lungs', 'films', 'evidence inside the lungs', 'lungs’ share of the film', 'ratio'],
      [
        html`<tr>
          <td>${found}</td>
          <td>${films}</td>
          ${cells}
        </tr>`,
      ],
    )}`;
}

export function groupSection({ groups }: Evaluation): Html | null {
  if (groups.length === 0) return null;
  const rows = groups.map(({ column, value, figures }) => ({ name: `${column}: ${value}`, figures }));
  return html`<h2>Groups</h2>
    <p>By the columns of the manifest. Figures of small groups are uncertain.</p>
    ${figureTable('group', rows)}`;
}

export function unreadableSection(unreadable: Evaluation['unreadable']): Html | null {
  if (unreadable.length === 0) return null;
  return html`<h2>Films that could not be read</h2>
    <p>They are not counted in any figure.</p>
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
