import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NOTICE } from '../../core/notice.js';
import { fullScale } from '../../imaging/image.js';
import type { DetectedPicture, DetectorEvaluation } from '../evaluation/detection.js';
import { iouOf, type DetectionFigures, type LabelledBox } from '../evaluation/detection-figures.js';
import { table } from './elements.js';
import type { Html } from './html.js';
import { html, page } from './html.js';
import { picture } from './pictures.js';

/** How many of the worst films the report shows. */
const WORST = 12;
/** Boxes that are less sure are not drawn. */
const DRAWN = 0.3;

/** Writes `report.html`, one self-contained page, and the same numbers as `report.json`. */
export async function writeDetectionReport(
  dir: string,
  name: string,
  { split, films, figures, floor, groups }: DetectorEvaluation,
  { summary, command }: { readonly summary: object; readonly command: string },
): Promise<void> {
  const worst = films
    .map((film) => ({ film, faults: faultsOf(film) }))
    .sort((a, b) => b.faults - a.faults)
    .slice(0, WORST);
  const shown = await Promise.all(worst.map(({ film, faults }) => figureOf(film, faults)));
  const judged: [string, DetectionFigures][] = [
    ['all', figures],
    ['floor: one box at the mean place', floor],
    ...groups.map(({ column, value, figures: of }): [string, DetectionFigures] => [
      `${column}: ${value}`,
      of,
    ]),
  ];
  const rows = judged.map(
    ([label, of]) =>
      html`<tr>
        <td>${label}</td>
        <td>${of.films}</td>
        <td>${of.boxes}</td>
        ${(['map50', 'map', 'mapRsna'] as const).map((key) => html`<td>${of[key]?.toFixed(3) ?? '–'}</td>`)}
      </tr>`,
  );
  const froc = html`<tr>
    <td>share of the boxes that are found</td>
    ${figures.froc.map(({ sensitivity }) => html`<td>${sensitivity?.toFixed(3) ?? '–'}</td>`)}
  </tr>`;
  const body = html`
    <h1>${name}</h1>
    <p class="muted">Boxes on ${films.length} films${split === 'all' ? '' : ` of the split “${split}”`}</p>
    <p class="warning">${NOTICE}</p>
    <h2>How well the boxes agree</h2>
    ${table(['films', 'n', 'boxes', 'mAP@0.5', 'mAP@0.5:0.95', 'mAP@0.4:0.75'], rows)}
    <h2>Boxes found by false alarms (FROC)</h2>
    ${table(['false positives per film', ...figures.froc.map((at) => String(at.falsePositives))], [froc])}
    <h2>The worst films</h2>
    <p class="note">Given boxes green, found ones (score ${DRAWN} and more) red.</p>
    <div class="films">${shown}</div>
    <footer><code>${command}</code></footer>
  `;
  await mkdir(dir, { recursive: true });
  const perFilm = films.map(({ film, found, truth }) => ({ film: film.name, found, truth }));
  const json = { ...summary, groups, perFilm };
  await writeFile(join(dir, 'report.json'), `${JSON.stringify(json, null, 2)}\n`);
  await writeFile(join(dir, 'report.html'), page(`${name}: evaluation`, body));
}

/** Boxes of one side without one of the other side that overlaps them by half. */
function faultsOf({ found, truth }: DetectedPicture): number {
  const sure = found.filter(({ score }) => score >= DRAWN);
  const alone = (boxes: readonly LabelledBox[], others: readonly LabelledBox[]): number =>
    boxes.filter((box) => !others.some((other) => other.label === box.label && iouOf(box, other) >= 0.5))
      .length;
  return alone(sure, truth) + alone(truth, sure);
}

async function figureOf({ film, image, found, truth }: DetectedPicture, faults: number): Promise<Html> {
  const { width, height, channels } = image;
  const full = fullScale(image.data);
  const data = new Uint8Array(width * height * 3);
  for (let p = 0; p < width * height; p++) {
    data.fill(((image.data[p * channels] ?? 0) / full) * 255, p * 3, p * 3 + 3);
  }
  const frame = (box: LabelledBox, colour: readonly number[]): void => {
    const clamped = (value: number, most: number): number =>
      Math.min(most - 1, Math.max(0, Math.round(value)));
    const [left, right] = [clamped(box.x, width), clamped(box.x + box.width, width)];
    const [top, bottom] = [clamped(box.y, height), clamped(box.y + box.height, height)];
    for (let x = left; x <= right; x++) for (const y of [top, bottom]) data.set(colour, (y * width + x) * 3);
    for (let y = top; y <= bottom; y++) for (const x of [left, right]) data.set(colour, (y * width + x) * 3);
  };
  for (const box of truth) frame(box, [0, 220, 0]);
  for (const box of found.filter(({ score }) => score >= DRAWN)) frame(box, [255, 0, 0]);
  const source = await picture({ width, height, channels: 3, data });
  return html`<figure>
    <div class="pair"><img src="${source}" alt="${film.name}" /></div>
    <figcaption>${film.name}: ${faults} boxes missed or wrong</figcaption>
  </figure>`;
}
