import { heatColour } from '../imaging/heat.js';
import { outlineOf } from '../imaging/outline.js';
import type { Picture, Pixels, View } from './api.js';
import { LEAST_WIDTH, WHOLE, type Window } from './light-box.js';

/** The colour of boxes and outlines. */
export const LINE = '#39d0ff';

/** The window from the 1st to the 99th percentile of the samples. */
export function autoOf(pixels: Pixels): Window {
  const sorted = pixels.data.slice().sort();
  const full = fullOf(pixels);
  const at = (share: number): number => (sorted[Math.floor(share * (sorted.length - 1))] ?? 0) / full;
  const [low, high] = [at(0.01), at(0.99)];
  return high > low ? { level: (low + high) / 2, width: Math.max(LEAST_WIDTH, high - low) } : WHOLE;
}

function fullOf({ data }: Pixels): number {
  return data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65535 : 1;
}

/** Draws the pixels through the window; the canvas gets their size. */
export function draw(canvas: HTMLCanvasElement, pixels: Pixels, grey: Window, inverted: boolean): void {
  const { width, height, channels, data } = pixels;
  const full = fullOf(pixels);
  const low = grey.level - grey.width / 2;
  const image = new ImageData(width, height);
  const shade = (sample: number): number => {
    const share = Math.min(1, Math.max(0, (sample / full - low) / grey.width));
    return 255 * (inverted ? 1 - share : share);
  };
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++)
      image.data[4 * i + c] = shade(data[i * channels + (channels === 3 ? c : 0)] ?? 0);
    image.data[4 * i + 3] = 255;
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext('2d')?.putImageData(image, 0, 0);
}

/** A picture over the film: a grey one as it is, a map in the colours of the heat scale, a mask in one colour. */
export type LayerKind = 'film' | 'map' | 'mask';

/** A fetched overlay. */
export interface Layer {
  readonly kind: LayerKind;
  readonly view: View;
  readonly image: CanvasImageSource;
  /** The path of its outline, in pixels of the overlay, and their number. */
  readonly outline: string;
  readonly width: number;
  readonly height: number;
}

/** Colours an overlay. A map is relative to its highest value, as in reports and in the pictures of the `folder` sink. */
export function layerOf({ bitmap, view }: Picture, kind: LayerKind): Layer {
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const painter = canvas.getContext('2d');
  const plain = { kind, view, width, height };
  if (painter === null || kind === 'film') return { ...plain, image: bitmap, outline: '' };
  painter.drawImage(bitmap, 0, 0);
  const image = painter.getImageData(0, 0, width, height);
  const values = Uint8Array.from({ length: width * height }, (_, i) => image.data[4 * i] ?? 0);
  const highest = values.reduce((a, b) => Math.max(a, b), 1);
  values.forEach((value, i) => {
    image.data.set(kind === 'mask' ? [57, 208, 255, value] : heatColour(value / highest), 4 * i);
  });
  painter.putImageData(image, 0, 0);
  return { ...plain, image: canvas, outline: outlineOf({ width, height, data: values }, highest / 2) };
}

/** Lays the overlay over the part of the film that it is of. */
export function lay(canvas: HTMLCanvasElement, film: View, layer: Layer, opacity: number): void {
  const context = canvas.getContext('2d');
  if (context === null) return;
  const [across, down] = [canvas.width / film.width, canvas.height / film.height];
  const { x, y, width, height } = layer.view;
  context.save();
  context.globalAlpha = opacity;
  context.imageSmoothingQuality = 'high';
  context.drawImage(layer.image, (x - film.x) * across, (y - film.y) * down, width * across, height * down);
  context.restore();
}

/** What a pane shows, as one PNG of at least a thousand pixels. `lines` are drawn over it. */
export async function pngOf(canvas: HTMLCanvasElement, lines: SVGSVGElement, view: View): Promise<Blob> {
  const scale = Math.max(1, 1024 / Math.max(canvas.width, canvas.height));
  const whole = new OffscreenCanvas(Math.round(canvas.width * scale), Math.round(canvas.height * scale));
  const context = whole.getContext('2d');
  if (context === null) throw new Error('the browser draws no picture');
  context.drawImage(canvas, 0, 0, whole.width, whole.height);
  const svg = lines.cloneNode(true) as SVGSVGElement;
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  svg.setAttribute('viewBox', [view.x, view.y, view.width, view.height].join(' '));
  svg.setAttribute('width', String(whole.width));
  svg.setAttribute('height', String(whole.height));
  const drawn = new Image();
  drawn.src = `data:image/svg+xml,${encodeURIComponent(svg.outerHTML)}`;
  await drawn.decode();
  context.drawImage(drawn, 0, 0);
  return whole.convertToBlob({ type: 'image/png' });
}

export function save(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
