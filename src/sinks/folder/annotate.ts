import type { Sharp } from 'sharp';
import { z } from 'zod';
import { imageOf, type Anomaly, type Classification, type Frame, type Image } from '../../core/frame.js';
import { NOTICE } from '../../core/notice.js';
import { printable } from '../../core/printable.js';
import { verdictOf } from '../../core/verdict.js';
import { heatColour } from '../../imaging/heat.js';
import { fullScale } from '../../imaging/image.js';
import { fromFilm, viewOf } from '../../imaging/view.js';
import { region, type Region } from '../measurements.js';

export interface AnnotateOptions {
  /** Longer side of the film in the picture, in pixels. */
  readonly size: number;
  /** Whether to lay anomaly maps over the film. */
  readonly map: boolean;
}

/** What a detector says: boxes in pixels of the frame's image, or of the whole film where `film` has its size. */
const detected = z.object({
  boxes: z.array(region),
  film: z.object({ width: z.number(), height: z.number() }).optional(),
});

const FONT = `font-family="Inter, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"`;
const LINE = 20;
const MARGIN = 10;
/** Maximum opacity of the map. */
const MAX_OPACITY = 0.65;

/**
 * The frame's image as an annotated PNG: the film (8 bit; floating point is stretched from its darkest to its brightest
 * value), the anomaly map in the colours of {@link heatColour} over it, boxes, and below it a line per result, the
 * frame id and the notice. Maps are stretched over the whole film.
 */
export async function annotate(frame: Frame, { size, map }: AnnotateOptions): Promise<Buffer> {
  const { default: sharp } = await import('sharp');
  const image = imageOf(frame);
  const scale = size / Math.max(image.width, image.height);
  const width = Math.max(1, Math.round(image.width * scale));
  const height = Math.max(1, Math.round(image.height * scale));
  const raw = (data: Uint8Array, from: Image, channels: 1 | 3 | 4): Sharp =>
    sharp(data, { raw: { width: from.width, height: from.height, channels } }).resize(width, height, {
      fit: 'fill',
    });

  const results = Object.entries(frame.results);
  const overlay = map
    ? results.map(([, result]) => mapOf(result)).find((each) => each !== undefined)
    : undefined;
  const found = results.flatMap(([, result]) => boxesOnImage(result, frame));
  const lines = [
    ...verdictLine(frame),
    ...results.flatMap(([id, result]) => lineOf(id, result)),
    `film ${frame.id}`,
    NOTICE,
  ];
  const bottom = height + 2 * MARGIN + lines.length * LINE;
  // A film narrower than the text is at its left.
  const right = Math.max(width, 460);

  const film = await raw(eightBit(image), image, image.channels).png().toBuffer();
  const heat = overlay && (await raw(heatOf(overlay), overlay, 4).png().toBuffer());
  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${right}" height="${bottom}" ${FONT}>` +
    found.map((box) => boxOf(box, scale)).join('') +
    lines
      .map((line, i) => {
        const y = height + MARGIN + (i + 0.75) * LINE;
        const fill = line === NOTICE ? '#ffb3ad' : '#ffffff';
        return `<text x="${MARGIN}" y="${y}" font-size="15" fill="${fill}">${escapeXml(line)}</text>`;
      })
      .join('') +
    '</svg>';
  return sharp({ create: { width: right, height: bottom, channels: 3, background: '#101418' } })
    .composite([
      { input: film, left: 0, top: 0 },
      ...(heat === undefined ? [] : [{ input: heat, left: 0, top: 0 }]),
      { input: Buffer.from(svg), left: 0, top: 0 },
    ])
    .removeAlpha()
    .png()
    .toBuffer();
}

/** `suspicious: 0.97 by classes`, `not suspicious: 0.12`; empty if unknown. */
function verdictLine({ results }: Frame): string[] {
  const { abnormal, suspicion, abnormalStages } = verdictOf(results);
  if (abnormal === null) return [];
  const number = suspicion === null ? '' : ` ${suspicion.toFixed(2)}`;
  return [abnormal ? `suspicious:${number} by ${abnormalStages.join(', ')}` : `not suspicious:${number}`];
}

/** `classes: bacterial 97 %`, `anomaly: 0.610, percentile 99`. */
function lineOf(id: string, result: Frame['results'][string]): string[] {
  if (result.kind === 'classification') {
    const { label, probability, positives, probabilities } = result as Classification;
    const percent = (name: string, p: number): string => `${name} ${(100 * p).toFixed(0)} %`;
    const findings = positives?.map((name) => percent(name, probabilities[name] ?? 0)).join(', ');
    return [`${id}: ${findings === undefined ? percent(label, probability) : findings || 'no finding'}`];
  }
  if (result.kind === 'detection') {
    const { boxes = [] } = detected.safeParse(result).data ?? {};
    const named = boxes.map(({ label = '', score }) => `${label} ${((score ?? 0) * 100).toFixed(0)} %`);
    return [`${id}: ${named.join(', ') || 'nothing found'}`];
  }
  if (result.kind === 'anomaly') {
    const { anomalyScore, percentile } = result as Anomaly;
    const rank = percentile === null ? '' : `, percentile ${percentile.toFixed(0)}`;
    return [`${id}: ${anomalyScore.toFixed(3)}${rank}`];
  }
  return [];
}

/** A result's boxes in pixels of the frame's image; none where it is not known which part of the film the image shows. */
function boxesOnImage(result: Frame['results'][string], frame: Frame): Region[] {
  const { boxes = [], film } = detected.safeParse(result).data ?? {};
  if (film === undefined) return boxes;
  const image = imageOf(frame);
  const view = viewOf(image, frame.view);
  if (film.width !== view.film.width || film.height !== view.film.height) return [];
  return boxes.map((box) => ({ ...box, ...fromFilm(box, image, view) }));
}

/** The map of an anomaly stage: where the film differs from normal ones. */
function mapOf(result: Frame['results'][string]): Image | undefined {
  const { map, residual } = result as { map?: unknown; residual?: unknown };
  const image = (map ?? residual) as Partial<Image> | undefined;
  return image?.channels === 1 && ArrayBuffer.isView(image.data) ? (image as Image) : undefined;
}

/** The one heat scale, relative to the map's highest value. RGBA. */
function heatOf({ data }: Image): Uint8Array {
  let highest = 0;
  for (const value of data) highest = Math.max(highest, value);
  const pixels = new Uint8Array(data.length * 4);
  for (const [i, value] of data.entries()) {
    const heat = highest === 0 ? 0 : Math.max(0, value / highest);
    const [r, g, b, opacity] = heatColour(heat);
    pixels.set([r, g, b, Math.round(opacity * MAX_OPACITY)], 4 * i);
  }
  return pixels;
}

function eightBit({ data }: Image): Uint8Array {
  if (data instanceof Uint8Array) return data;
  let [lowest, highest] = [0, fullScale(data)];
  if (data instanceof Float32Array) {
    [lowest, highest] = [Infinity, -Infinity];
    for (const value of data) {
      lowest = Math.min(lowest, value);
      highest = Math.max(highest, value);
    }
  }
  const factor = highest > lowest ? 255 / (highest - lowest) : 0;
  return Uint8Array.from(data, (value) => Math.round((value - lowest) * factor));
}

function boxOf({ x, y, width, height, label, score }: Region, scale: number): string {
  const [left, top] = [x * scale, y * scale];
  const sure = score === undefined ? '' : ` ${(100 * score).toFixed(0)} %`;
  const text = label === undefined ? '' : escapeXml(label + sure);
  return (
    `<rect x="${left}" y="${top}" width="${width * scale}" height="${height * scale}" fill="none" stroke="#39d0ff" stroke-width="2"/>` +
    `<text x="${left + 4}" y="${top + 16}" font-size="14" fill="#39d0ff">${text}</text>`
  );
}

function escapeXml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return printable(text).replaceAll(/[&<>"\p{Cs}]/gu, (sign) => entities[sign] ?? '�');
}
