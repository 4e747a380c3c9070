import { useSignal, useSignalEffect } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { heatColour } from '../imaging/heat.js';
import { isDetection } from './result.js';
import {
  gradCamUrl,
  picture as fetchPicture,
  pixels as fetchPixels,
  resultUrl,
  type Detection,
  type FilmDetails,
  type Pixels,
} from './api.js';

/** A window as on a light box: `width` grey levels about `level` fill black to white, as shares of the full range. */
interface Window {
  readonly level: number;
  readonly width: number;
}

/** A picture that can be laid over the film. */
interface Overlay {
  readonly name: string;
  readonly url: string;
  /** A grey image such as a reconstruction; everything else is a map. */
  readonly isFilm: boolean;
}

const WHOLE: Window = { level: 0.5, width: 1 };
/** Presets; `Auto` spans the 1st to the 99th percentile of the film. */
const PRESETS: Readonly<Record<string, Window | undefined>> = {
  Whole: WHOLE,
  Auto: undefined,
  'Dark parts': { level: 0.3, width: 0.5 },
  'Bright parts': { level: 0.7, width: 0.5 },
};
const MAX_ZOOM = 8;
/** Step of the keys. */
const STEP = 0.02;
const LEAST_WIDTH = 0.01;

/** The film with window and level by mouse or keys, and overlays of the models. */
export function Viewer({ film }: { readonly film: FilmDetails }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const pixels = useSignal<Pixels | null>(null);
  const fault = useSignal('');
  const grey = useSignal<Window>(WHOLE);
  const inverted = useSignal(false);
  const zoom = useSignal(1);
  const overlay = useSignal<Overlay | undefined>(undefined);
  const overlays = overlaysOf(film);
  const detections = Object.values(film.results).filter(isDetection);
  const boxed = useSignal(true);
  const opacity = useSignal(0.5);
  const overlayImage = useSignal<ImageBitmap | null>(null);

  useEffect(() => {
    firstPixels(film).then(
      (found) => {
        pixels.value = found;
      },
      (error: unknown) => {
        fault.value = error instanceof Error ? error.message : String(error);
      },
    );
  }, [film.id]);

  useSignalEffect(() => {
    const chosen = overlay.value;
    overlayImage.value = null;
    if (chosen === undefined) return;
    fetchPicture(chosen.url).then(
      (bitmap) => {
        if (overlay.value === chosen) overlayImage.value = bitmap;
      },
      (error: unknown) => {
        if (overlay.value !== chosen) return;
        overlay.value = undefined;
        fault.value = `${chosen.name}: ${error instanceof Error ? error.message : String(error)}`;
      },
    );
  });

  useSignalEffect(() => {
    if (canvas.current === null || pixels.value === null) return;
    draw(canvas.current, pixels.value, grey.value, inverted.value);
    if (overlayImage.value !== null) {
      lay(canvas.current, overlayImage.value, opacity.value, overlay.value?.isFilm === true);
    }
    if (boxed.value) for (const detection of detections) frame(canvas.current, detection);
  });

  const move = (level: number, width: number): void => {
    const { level: l, width: w } = grey.value;
    grey.value = {
      level: Math.min(1, Math.max(0, l + level)),
      width: Math.min(2, Math.max(LEAST_WIDTH, w + width)),
    };
  };
  const drag = (event: PointerEvent): void => {
    if (event.buttons !== 1) return;
    const { width, height } = (event.currentTarget as HTMLElement).getBoundingClientRect();
    move(-event.movementY / height, event.movementX / width);
  };
  const press = (event: KeyboardEvent): void => {
    const by: Record<string, [number, number]> = {
      ArrowUp: [STEP, 0],
      ArrowDown: [-STEP, 0],
      ArrowRight: [0, STEP],
      ArrowLeft: [0, -STEP],
    };
    const step = by[event.key];
    if (step === undefined) return;
    event.preventDefault();
    move(...step);
  };
  const reset = (): void => {
    grey.value = WHOLE;
    inverted.value = false;
    zoom.value = 1;
  };
  const { level, width } = grey.value;
  return (
    <figure class="viewer">
      <div class={zoom.value > 1 ? 'lens zoomed' : 'lens'}>
        <canvas
          ref={canvas}
          style={zoom.value > 1 ? { width: `${String(zoom.value * 100)}%` } : {}}
          tabIndex={0}
          role="img"
          aria-label={`The film. Level ${(level * 100).toFixed(0)}, window ${(width * 100).toFixed(0)}: arrow keys change them.`}
          onPointerDown={(event) => {
            event.currentTarget.setPointerCapture(event.pointerId);
          }}
          onPointerMove={drag}
          onDblClick={reset}
          onKeyDown={press}
        />
      </div>
      <p role="alert">{fault}</p>
      <figcaption>
        <span>
          Level {(level * 100).toFixed(0)} · window {(width * 100).toFixed(0)}: drag, or use the arrow keys
        </span>
        <button type="button" onClick={reset}>
          Reset
        </button>
        <label>
          Window{' '}
          <select
            value=""
            onChange={({ currentTarget }) => {
              const { value } = currentTarget;
              grey.value = PRESETS[value] ?? autoOf(pixels.value) ?? WHOLE;
              currentTarget.value = '';
            }}
          >
            <option value="">choose…</option>
            {Object.keys(PRESETS).map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          Zoom{' '}
          <input
            type="range"
            min="1"
            max={MAX_ZOOM}
            step="0.5"
            value={zoom.value}
            onInput={({ currentTarget }) => {
              zoom.value = currentTarget.valueAsNumber;
            }}
          />
        </label>
        <button
          type="button"
          onClick={() => {
            canvas.current?.toBlob((blob) => {
              if (blob !== null) save(blob, `${film.id}.png`);
            });
          }}
        >
          PNG
        </button>
        <button
          type="button"
          onClick={() => {
            const json = JSON.stringify(film, null, 2);
            save(new Blob([json], { type: 'application/json' }), `${film.id}.json`);
          }}
        >
          JSON
        </button>
        <label>
          <input
            type="checkbox"
            checked={inverted.value}
            onChange={({ currentTarget }) => {
              inverted.value = currentTarget.checked;
            }}
          />
          Invert
        </label>
        {detections.some(({ boxes }) => boxes.length > 0) && (
          <label>
            <input
              type="checkbox"
              checked={boxed.value}
              onChange={({ currentTarget }) => {
                boxed.value = currentTarget.checked;
              }}
            />
            Boxes
          </label>
        )}
        {overlays.length > 0 && (
          <>
            <label>
              Overlay{' '}
              <select
                value={overlay.value?.name ?? ''}
                onChange={({ currentTarget }) => {
                  overlay.value = overlays.find(({ name }) => name === currentTarget.value);
                }}
              >
                <option value="">none</option>
                {overlays.map(({ name }) => (
                  <option key={name}>{name}</option>
                ))}
              </select>
            </label>
            {overlay.value !== undefined && !overlay.value.isFilm && <Legend name={overlay.value.name} />}
            <span role="status">
              {overlay.value !== undefined && overlayImage.value === null && 'being drawn…'}
            </span>
            <label>
              Opacity{' '}
              <input
                type="range"
                min="0"
                max="1"
                step="0.05"
                value={opacity.value}
                onInput={({ currentTarget }) => {
                  opacity.value = currentTarget.valueAsNumber;
                }}
              />
            </label>
          </>
        )}
      </figcaption>
    </figure>
  );
}

/** The colours of the map, from low to high. */
function Legend({ name }: { readonly name: string }) {
  const stops = [0, 0.2, 0.4, 0.6, 0.8, 1].map((share) => {
    const [r, g, b, a] = heatColour(share);
    return `rgb(${String(r)} ${String(g)} ${String(b)} / ${String(a / 255)})`;
  });
  return (
    <span class="legend">
      little
      <span
        role="img"
        aria-label={`Colours of ${name}`}
        style={{ background: `linear-gradient(90deg, ${stops.join(', ')})` }}
      />
      much
    </span>
  );
}

function save(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** The window from the first to the 99th percentile of the samples. */
function autoOf(pixels: Pixels | null): Window | undefined {
  if (pixels === null) return undefined;
  const sorted = pixels.data.slice().sort();
  const full = fullOf(pixels);
  const at = (share: number): number => (sorted[Math.floor(share * (sorted.length - 1))] ?? 0) / full;
  const [low, high] = [at(0.01), at(0.99)];
  return { level: (low + high) / 2, width: Math.max(LEAST_WIDTH, high - low) };
}

function fullOf({ data }: Pixels): number {
  return data instanceof Uint8Array ? 255 : data instanceof Uint16Array ? 65535 : 1;
}

function overlaysOf({ id, images, models }: FilmDetails): Overlay[] {
  return [
    ...models
      .filter(({ gradCam }) => gradCam)
      .map(({ stage }) => ({ name: `Grad-CAM of ${stage}`, url: gradCamUrl(id, stage), isFilm: false })),
    ...images.map(({ stage, field }) => ({
      name: `${field} of ${stage}`,
      url: resultUrl(id, stage, field),
      isFilm: field === 'reconstruction',
    })),
  ];
}

/** The output of the first stage that gives pixels (the decoder), at full bit depth. */
async function firstPixels({ id, stages }: FilmDetails): Promise<Pixels> {
  let fault: unknown = new Error('The graph has no stage that decodes the film.');
  for (const stage of stages) {
    try {
      return await fetchPixels(id, stage);
    } catch (error) {
      fault = error;
    }
  }
  throw fault;
}

function draw(canvas: HTMLCanvasElement, pixels: Pixels, grey: Window, inverted: boolean) {
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

/** Draws the boxes of a detector, where they are in pixels of this very film. */
function frame(canvas: HTMLCanvasElement, { boxes, film }: Detection): void {
  const context = canvas.getContext('2d');
  if (context === null || film.width !== canvas.width || film.height !== canvas.height) return;
  const line = Math.max(1, canvas.width / 320);
  context.save();
  context.lineWidth = line;
  context.strokeStyle = context.fillStyle = '#39d0ff';
  context.font = `${String(8 * line)}px system-ui, sans-serif`;
  for (const { x, y, width, height, label, score } of boxes) {
    context.strokeRect(x, y, width, height);
    context.fillText(`${label} ${(100 * score).toFixed(0)} %`, x + 2 * line, y + 9 * line);
  }
  context.restore();
}

/** Lays a grey picture over the film, as it is or as a heat map that is transparent where it is black. */
function lay(canvas: HTMLCanvasElement, picture: ImageBitmap, opacity: number, isFilm: boolean): void {
  const context = canvas.getContext('2d');
  if (context === null) return;
  let layer: CanvasImageSource = picture;
  if (!isFilm) {
    const heat = new OffscreenCanvas(picture.width, picture.height);
    const painter = heat.getContext('2d');
    if (painter === null) return;
    painter.drawImage(picture, 0, 0);
    const image = painter.getImageData(0, 0, picture.width, picture.height);
    for (let i = 0; i < image.data.length; i += 4) {
      image.data.set(heatColour((image.data[i] ?? 0) / 255), i);
    }
    painter.putImageData(image, 0, 0);
    layer = heat;
  }
  context.save();
  context.globalAlpha = opacity;
  context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  context.restore();
}
