import type { AnomalyFigures } from '../evaluation/anomaly-figures.js';
import type { BinaryFigures } from '../evaluation/binary-figures.js';
import type { ClassifierFigures } from '../evaluation/classifier-figures.js';
import type { Intervals } from '../evaluation/figures.js';
import { chart } from './charts.js';
import { Html, html } from './html.js';

export function figure(value: number | null): string {
  return value === null || !Number.isFinite(value) ? '–' : value.toFixed(3);
}

export function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}

export function range(intervals: Intervals, name: string): string {
  const found = intervals[name];
  return found == null ? '' : `${found[0].toFixed(3)}–${found[1].toFixed(3)}`;
}

/** A table in a card of its own. */
export function table(head: readonly string[], rows: readonly Html[]): Html {
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

export function figureTable(
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

export async function chartCard(title: string, spec: object, note?: string): Promise<Html> {
  return html`<div class="card chart">
    <h3>${title}</h3>
    ${new Html(await chart(spec))} ${note === undefined ? null : html`<p class="note">${note}</p>`}
  </div>`;
}
