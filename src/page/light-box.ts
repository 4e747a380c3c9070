import { batch, signal } from '@preact/signals';
import { place } from './state.js';

/** A window: `width` grey levels about `level` fill black to white, as shares of the full range. */
export interface Window {
  readonly level: number;
  readonly width: number;
}

export const WHOLE: Window = { level: 0.5, width: 1 };
/** Presets; `auto` spans the 1st to the 99th percentile of each picture. */
export const PRESETS: Readonly<Record<string, Window | 'auto'>> = {
  Whole: WHOLE,
  Auto: 'auto',
  'Dark parts': { level: 0.3, width: 0.5 },
  'Bright parts': { level: 0.7, width: 0.5 },
};
export const MAX_ZOOM = 16;
export const LEAST_WIDTH = 0.01;

/** How all pictures of the film view are shown: one state, so that they move together. */
export const grey = signal<Window | 'auto'>(WHOLE);
export const inverted = signal(false);
export const zoom = signal(1);
/** The place of the film in the middle, as shares of its width and height. */
export const centre = signal({ x: 0.5, y: 0.5 });
/** What dragging does. */
export const tool = signal<'window' | 'pan'>('window');

export function reset(): void {
  batch(() => {
    grey.value = WHOLE;
    inverted.value = false;
    zoom.value = 1;
    centre.value = { x: 0.5, y: 0.5 };
  });
}

/** Zooms so that the place `fixed` of the film stays where it is. */
export function zoomTo(wanted: number, fixed = centre.value): void {
  const next = Math.min(MAX_ZOOM, Math.max(1, wanted));
  const ratio = zoom.value / next;
  const { x, y } = centre.value;
  batch(() => {
    zoom.value = next;
    moveTo(fixed.x + (x - fixed.x) * ratio, fixed.y + (y - fixed.y) * ratio);
  });
}

/** Brings a place of the film to the middle, as far as the film's edges allow. */
export function moveTo(x: number, y: number): void {
  const half = 0.5 / zoom.value;
  const inside = (share: number): number => Math.min(1 - half, Math.max(half, share));
  centre.value = { x: inside(x), y: inside(y) };
}

/** What the address says of the pictures: `films/ID?stage=clahe&beside=ID&besideStage=decode`. */
export interface Shown {
  /** The stage whose output is shown; null: the first one with pixels. */
  readonly stage: string | null;
  /** The film beside it, and its stage. */
  readonly beside: string | null;
  readonly besideStage: string | null;
}

export function shown(): Shown {
  const parts = new URLSearchParams(place.value.split('?')[1] ?? '');
  const [stage, beside, besideStage] = [parts.get('stage'), parts.get('beside'), parts.get('besideStage')];
  return { stage, beside, besideStage };
}

/** Changes what is shown, in the address of this film or of another one. */
export function show(change: Partial<Shown>, id = filmId()): void {
  const kept = Object.entries({ ...shown(), ...change }).filter(([, value]) => value !== null);
  const parts = new URLSearchParams(Object.fromEntries(kept) as Record<string, string>);
  const address = `films/${id}${parts.size === 0 ? '' : `?${parts.toString()}`}`;
  history.replaceState(history.state, '', `#${address}`);
  place.value = address;
}

function filmId(): string {
  return (place.value.split('?')[0] ?? '').split('/')[1] ?? '';
}
