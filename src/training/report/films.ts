import type { Anomaly, Image } from '../../core/frame.js';
import type { ClassifiedFilms } from '../evaluation/classifier-figures.js';
import type { Evaluation } from '../evaluation/evaluate.js';
import { rank } from '../evaluation/ranking.js';
import { figure, percent } from './elements.js';
import { html, type Html } from './html.js';
import { heat, overlay, picture } from './pictures.js';
import type { Findings } from './report.js';

/** How many pictures of a kind the page shows. */
const MISTAKES = 12;
const EXAMPLES = 8;

/** The films that the page wants a Grad-CAM map of: its worst mistakes, and some correct ones. */
export function filmsToExplain(evaluation: Evaluation): number[] {
  if (evaluation.kind !== 'classifier') return [];
  const { said } = evaluation;
  const right = said.truth.flatMap((truth, film) => (truth === top(said, film) ? [film] : []));
  const examples = said.labels.flatMap((_, label) =>
    right.filter((film) => said.truth[film] === label).slice(0, Math.ceil(EXAMPLES / said.labels.length)),
  );
  return [...worstMistakes(evaluation, MISTAKES).map(({ film }) => film), ...examples];
}

export async function mistakeSection(findings: Findings): Promise<Html | null> {
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
          second === undefined ? null : html`<img src="${second}" alt="map of the model's evidence" />`
        }
      </div>
      <figcaption>${evaluation.films[film]?.name ?? ''}<br />${said}</figcaption>
    </figure>`;
  });
  return html`<h2>Worst mistakes</h2>
    <p>The wrong predictions with the highest confidence. The films are shown as the model's input.</p>
    <div class="films">${await Promise.all(cards)}</div>`;
}

export async function explanationSection({ evaluation, explanation }: Findings): Promise<Html | null> {
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
    return html`<h2>Anomaly maps</h2>
      <p>
        Each film, its reconstruction where the model makes one, and the difference map: the most anomalous
        films first, then the least anomalous.
      </p>
      <div class="films">${await Promise.all(cards)}</div>`;
  }
  const { gradCam } = explanation;
  if (gradCam === null) {
    return html`<h2>Grad-CAM</h2>
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
        ${evaluation.films[film]?.name ?? ''}<br />correctly classified as
        ${evaluation.said.labels[top(evaluation.said, film)] ?? ''}
      </figcaption>
    </figure>`;
  });
  return html`<h2>Grad-CAM</h2>
    <p>
      Grad-CAM (Selvaraju et al. 2017, as LayerCAM, Jiang et al. 2021) marks the regions that raise the score
      of the predicted class, from dark violet (weak) to light yellow (strong). These films are classified
      correctly. The maps show where the evidence is, not whether it is sound.
    </p>
    <div class="films">${await Promise.all(cards)}</div>`;
}

/** The wrong predictions with the highest confidence. */
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

/** The highest scores and the lowest, `count` of each. */
function extremes(scores: readonly number[], count: number): number[] {
  const order = [...scores.keys()].sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0));
  return order.length <= 2 * count ? order : [...order.slice(0, count), ...order.slice(-count)];
}

/** The map that an anomaly stage gives: of a generator the residual, of a memory the distances. */
function residualOf(result: Anomaly): Image | undefined {
  return (result.residual ?? result.map) as Image | undefined;
}

function top({ probabilities }: ClassifiedFilms, film: number): number {
  const row = probabilities[film] ?? [];
  return row.indexOf(Math.max(...row));
}
