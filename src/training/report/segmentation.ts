import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NOTICE } from '../../core/notice.js';
import { fullScale } from '../../imaging/image.js';
import type { Mask } from '../../imaging/mask-distance.js';
import type { SegmentedFilm, SegmenterEvaluation } from '../evaluation/segmentation.js';
import type { SegmentationFigures } from '../evaluation/segmentation-figures.js';
import { table } from './elements.js';
import type { Html } from './html.js';
import { html, page } from './html.js';
import { picture } from './pictures.js';

/** How many of the worst films the report shows. */
const WORST = 12;

/** Writes `report.html`, one self-contained page, and the same numbers as `report.json`. */
export async function writeSegmentationReport(
  dir: string,
  name: string,
  { split, films, figures, groups, shifts = [] }: SegmenterEvaluation,
  { summary, command }: { readonly summary: object; readonly command: string },
): Promise<void> {
  const worst = [...films].sort((a, b) => a.agreement.dice - b.agreement.dice).slice(0, WORST);
  const shown = await Promise.all(worst.map(figureOf));
  const judged: [string, SegmentationFigures][] = [
    ['all', figures],
    ...groups.map(({ column, value, figures: of }): [string, SegmentationFigures] => [
      `${column}: ${value}`,
      of,
    ]),
  ];
  const body = html`
    <h1>${name}</h1>
    <p class="muted">Masks of ${films.length} films${split === 'all' ? '' : ` of the split “${split}”`}</p>
    <p class="warning">${NOTICE}</p>
    <h2>How well the masks agree</h2>
    <p class="note">HD95 and ASSD are in percent of the film's diagonal.</p>
    ${agreementTable('films', judged)}
    ${
      shifts.length === 0
        ? null
        : html`<h2>Films from other sources</h2>
            <p>The same films, altered as other machines would produce them.</p>
            ${agreementTable(
              'shift',
              shifts.map((shift) => [shift.name, shift]),
            )}`
    }
    <h2>The worst films</h2>
    <p class="note">Given outline green, found outline red, yellow where both are.</p>
    <div class="films">${shown}</div>
    <footer><code>${command}</code></footer>
  `;
  await mkdir(dir, { recursive: true });
  const perFilm = films.map(({ film, agreement }) => ({ film: film.name, ...agreement }));
  await writeFile(join(dir, 'report.json'), `${JSON.stringify({ ...summary, groups, perFilm }, null, 2)}\n`);
  await writeFile(join(dir, 'report.html'), page(`${name}: evaluation`, body));
}

function agreementTable(what: string, judged: readonly [string, SegmentationFigures][]): Html {
  const rows = judged.map(
    ([label, of]) =>
      html`<tr>
        <td>${label}</td>
        <td>${of.films}</td>
        ${(['dice', 'diceFifthPercentile', 'iou', 'hd95', 'assd'] as const).map(
          (key) => html`<td>${of[key]?.toFixed(3) ?? '–'}</td>`,
        )}
      </tr>`,
  );
  return table([what, 'n', 'Dice', '5th percentile', 'IoU', 'HD95', 'ASSD'], rows);
}

async function figureOf({ film, image, found, truth, agreement }: SegmentedFilm): Promise<Html> {
  const { width, height, channels } = image;
  const full = fullScale(image.data);
  const data = new Uint8Array(width * height * 3);
  for (let p = 0; p < width * height; p++) {
    data.fill(((image.data[p * channels] ?? 0) / full) * 255, p * 3, p * 3 + 3);
    const [red, green] = [isOutline(found, p), isOutline(truth, p)];
    if (red || green) data.set([red ? 255 : 0, green ? 220 : 0, 0], p * 3);
  }
  const source = await picture({ width, height, channels: 3, data });
  return html`<figure>
    <div class="pair"><img src="${source}" alt="${film.name}" /></div>
    <figcaption>
      ${film.name}: Dice ${agreement.dice.toFixed(3)}, HD95 ${agreement.hd95.toFixed(1)} %
    </figcaption>
  </figure>`;
}

/** Whether a pixel of the mask has a side neighbour outside of it. */
function isOutline({ width, height, data }: Mask, p: number): boolean {
  const x = p % width;
  const y = Math.floor(p / width);
  const out = (q: number): boolean => (data[q] ?? 0) === 0;
  if (out(p)) return false;
  return (
    x === 0 ||
    y === 0 ||
    x === width - 1 ||
    y === height - 1 ||
    out(p - 1) ||
    out(p + 1) ||
    out(p - width) ||
    out(p + width)
  );
}
