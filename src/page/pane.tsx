import { useSignal, useSignalEffect } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { heatColour } from '../imaging/heat.js';
import {
  gradCamUrl,
  picture as fetchPicture,
  pixels as fetchPixels,
  resultUrl,
  type Detection,
  type FilmDetails,
  type Pixels,
  type View,
} from './api.js';
import { autoOf, draw, lay, layerOf, LINE, pngOf, save, type Layer, type LayerKind } from './drawing.js';
import { centre, grey, inverted, LEAST_WIDTH, moveTo, reset, tool, zoom, zoomTo } from './light-box.js';
import { isClassification, isDetection, percent, wordsOf } from './result.js';

/** A picture that can be laid over the film. */
interface Overlay {
  readonly name: string;
  readonly kind: LayerKind;
  readonly url: string;
  /** What a map shows. */
  readonly meaning: string;
  /** The labels that it can be drawn for. */
  readonly labels: readonly string[];
}

/** In pixels of the window, or as shares of the film. */
interface Point {
  readonly x: number;
  readonly y: number;
}

/** Step of the keys, as a share of the grey levels and of the film. */
const STEP = 0.02;

interface PaneProps {
  readonly film: FilmDetails;
  /** Null: the first stage with pixels. */
  readonly stage: string | null;
  readonly choose: (stage: string) => void;
  readonly close?: () => void;
}

/** The output of a stage for a film through the window, with boxes and an overlay. */
export function Pane({ film, stage, choose, close }: PaneProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const lens = useRef<HTMLDivElement>(null);
  const lines = useRef<SVGSVGElement>(null);
  /** Where the buttons and fingers that are down on the picture were last. */
  const pointers = useRef(new Map<number, Point>());
  const pixels = useSignal<Pixels | null>(null);
  const from = useSignal('');
  const fault = useSignal('');
  const chosen = useSignal('');
  const label = useSignal('');
  const layer = useSignal<Layer | null>(null);
  const outlined = useSignal(false);
  const opacity = useSignal(0.5);
  const boxed = useSignal(true);

  useEffect(() => {
    let isLate = false;
    firstPixels(film.id, stage === null ? film.stages : [stage]).then(
      ([name, found]) => {
        if (isLate) return;
        from.value = name;
        pixels.value = found;
        fault.value = '';
      },
      (error: unknown) => {
        if (!isLate) fault.value = `${stage ?? 'The film'}: ${messageOf(error)}`;
      },
    );
    return () => {
      isLate = true;
    };
  }, [film.id, stage]);

  useSignalEffect(() => {
    const overlay = overlaysOf(film, label.value).find(({ name }) => name === chosen.value);
    layer.value = null;
    if (overlay === undefined) return undefined;
    let isLate = false;
    fetchPicture(overlay.url).then(
      (picture) => {
        if (!isLate) layer.value = layerOf(picture, overlay.kind);
      },
      (error: unknown) => {
        if (isLate) return;
        chosen.value = '';
        fault.value = `${overlay.name}: ${messageOf(error)}`;
      },
    );
    return () => {
      isLate = true;
    };
  });

  useSignalEffect(() => {
    const { value: found } = pixels;
    if (canvas.current === null || found === null) return;
    draw(canvas.current, found, grey.value === 'auto' ? autoOf(found) : grey.value, inverted.value);
    if (layer.value !== null && !outlined.value) lay(canvas.current, found.view, layer.value, opacity.value);
  });

  /** The place of the film, as shares of its width and height, at a point of the window. */
  const placeAt = ({ x, y }: Point): Point => {
    const { left, top, width, height } = lens.current?.getBoundingClientRect() ?? new DOMRect(0, 0, 1, 1);
    return {
      x: centre.value.x + ((x - left) / width - 0.5) / zoom.value,
      y: centre.value.y + ((y - top) / height - 0.5) / zoom.value,
    };
  };

  useEffect(() => {
    const element = lens.current;
    // Without a click into the picture first, the wheel scrolls the page.
    const turn = (event: WheelEvent): void => {
      if (!event.ctrlKey && document.activeElement !== canvas.current) return;
      event.preventDefault();
      zoomTo(zoom.value * 1.002 ** -event.deltaY, placeAt(pointOf(event)));
    };
    element?.addEventListener('wheel', turn, { passive: false });
    return () => element?.removeEventListener('wheel', turn);
  }, []);

  const shift = (level: number, width: number): void => {
    if (pixels.value === null) return;
    const { level: l, width: w } = grey.value === 'auto' ? autoOf(pixels.value) : grey.value;
    grey.value = {
      level: Math.min(1, Math.max(0, l + level)),
      width: Math.min(2, Math.max(LEAST_WIDTH, w + width)),
    };
  };
  const pan = (x: number, y: number): void => {
    moveTo(centre.value.x + x, centre.value.y + y);
  };
  /** Two fingers zoom and move the film, one and the mouse do what the tool says. */
  const drag = (event: PointerEvent): void => {
    const last = pointers.current.get(event.pointerId);
    const { clientWidth = 1, clientHeight = 1 } = lens.current ?? {};
    if (last === undefined) return;
    const now = pointOf(event);
    const other = [...pointers.current].find(([id]) => id !== event.pointerId)?.[1];
    pointers.current.set(event.pointerId, now);
    const [x, y] = [now.x - last.x, now.y - last.y];
    if (other !== undefined) {
      const between = { x: (last.x + other.x) / 2, y: (last.y + other.y) / 2 };
      zoomTo((zoom.value * distance(now, other)) / Math.max(1, distance(last, other)), placeAt(between));
      // The place between the fingers stays there: it moves half as far as one of them.
      pan(-x / 2 / (clientWidth * zoom.value), -y / 2 / (clientHeight * zoom.value));
    } else if (event.buttons === 1 && (tool.value === 'pan') === event.shiftKey) {
      shift(-y / clientHeight, x / clientWidth);
    } else pan(-x / (clientWidth * zoom.value), -y / (clientHeight * zoom.value));
  };
  const press = (event: KeyboardEvent): void => {
    const step = ARROWS[event.key];
    if (step !== undefined) {
      const [x, y] = step;
      if (event.shiftKey) pan((x * STEP) / zoom.value, (-y * STEP) / zoom.value);
      else shift(y * STEP, x * STEP);
    } else if (event.key === '+') zoomTo(zoom.value * 1.25);
    else if (event.key === '-') zoomTo(zoom.value / 1.25);
    else if (event.key === '0') reset();
    else return;
    event.preventDefault();
  };

  const view = pixels.value?.view;
  const { value: found } = layer;
  const overlays = overlaysOf(film, label.value);
  const overlay = overlays.find(({ name }) => name === chosen.value);
  const detections = Object.values(film.results).filter(isDetection);
  const share = (part: number, whole: number): string => `${String((100 * part) / whole)}%`;
  const moved = (middle: number): string => `${String((0.5 - middle) * 100 * zoom.value)}%`;
  // The lens has the shape of the film, and is at most as high as three quarters of the window.
  const ratio = view === undefined ? 1 : view.film.width / view.film.height;
  const shape = { aspectRatio: String(ratio), maxWidth: `calc(75dvh * ${String(ratio)})` };
  return (
    <figure class="pane">
      <div class="lens" ref={lens} style={shape}>
        <div
          class="scene"
          style={{
            transform: `translate(${moved(centre.value.x)}, ${moved(centre.value.y)}) scale(${String(zoom.value)})`,
          }}
        >
          <canvas
            ref={canvas}
            tabIndex={0}
            role="img"
            aria-label={`${film.file} after ${from.value}. ${windowText()}: arrow keys change them, plus and minus zoom.`}
            {...(view !== undefined && {
              style: {
                left: share(view.x, view.film.width),
                top: share(view.y, view.film.height),
                width: share(view.width, view.film.width),
                height: share(view.height, view.film.height),
              },
            })}
            onPointerDown={(event) => {
              event.currentTarget.setPointerCapture(event.pointerId);
              pointers.current.set(event.pointerId, pointOf(event));
            }}
            onPointerMove={drag}
            onLostPointerCapture={({ pointerId }) => {
              pointers.current.delete(pointerId);
            }}
            onDblClick={reset}
            onKeyDown={press}
          />
          {view !== undefined && (
            <svg
              ref={lines}
              viewBox={`0 0 ${String(view.film.width)} ${String(view.film.height)}`}
              aria-hidden="true"
            >
              {boxed.value &&
                detections.map((detection, i) => <Boxes key={i} detection={detection} view={view} />)}
              {found !== null && outlined.value && (
                <path
                  d={found.outline}
                  transform={`translate(${String(found.view.x)} ${String(found.view.y)}) scale(${String(found.view.width / found.width)} ${String(found.view.height / found.height)})`}
                  fill="none"
                  stroke={LINE}
                  stroke-width={2 / zoom.value}
                  stroke-linecap="round"
                  vector-effect="non-scaling-stroke"
                />
              )}
            </svg>
          )}
        </div>
      </div>
      <p role="alert">{fault}</p>
      <figcaption>
        <label>
          Stage{' '}
          <select
            value={from.value}
            onChange={({ currentTarget }) => {
              choose(currentTarget.value);
            }}
          >
            {film.stages.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        {overlays.length > 0 && (
          <label>
            Overlay{' '}
            <select
              value={chosen.value}
              onChange={({ currentTarget }) => {
                chosen.value = currentTarget.value;
                outlined.value = overlays.find(({ name }) => name === chosen.value)?.kind === 'mask';
              }}
            >
              <option value="">none</option>
              {overlays.map(({ name }) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
        )}
        {overlay !== undefined && overlay.labels.length > 1 && (
          <label>
            Class{' '}
            <select
              value={label.value}
              onChange={({ currentTarget }) => {
                label.value = currentTarget.value;
              }}
            >
              <option value="">as predicted</option>
              {overlay.labels.map((name) => (
                <option key={name} value={name}>
                  {wordsOf(name)}
                </option>
              ))}
            </select>
          </label>
        )}
        {overlay?.kind === 'map' && <Legend meaning={overlay.meaning} />}
        {overlay !== undefined && overlay.kind !== 'film' && (
          <Check name="Outline" checked={outlined.value} set={(value) => (outlined.value = value)} />
        )}
        {overlay !== undefined && !outlined.value && (
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
        )}
        <span role="status">{overlay !== undefined && found === null && 'being drawn…'}</span>
        {detections.some(({ boxes }) => boxes.length > 0) && (
          <Check name="Boxes" checked={boxed.value} set={(value) => (boxed.value = value)} />
        )}
        <button
          type="button"
          onClick={() => {
            if (canvas.current === null || lines.current === null || view === undefined) return;
            void pngOf(canvas.current, lines.current, view).then((png) => {
              save(png, `${film.id}-${from.value}.png`);
            });
          }}
        >
          PNG
        </button>
        {close !== undefined && (
          <button type="button" onClick={close}>
            Close
          </button>
        )}
      </figcaption>
    </figure>
  );
}

const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
  ArrowRight: [1, 0],
  ArrowLeft: [-1, 0],
};

function pointOf({ clientX, clientY }: MouseEvent): Point {
  return { x: clientX, y: clientY };
}

function distance(a: Point, b: Point): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

/** `Level 50, window 100`. */
export function windowText(): string {
  if (grey.value === 'auto') return 'Automatic window';
  const { level, width } = grey.value;
  return `Level ${(level * 100).toFixed(0)}, window ${(width * 100).toFixed(0)}`;
}

interface CheckProps {
  readonly name: string;
  readonly checked: boolean;
  readonly set: (value: boolean) => void;
}

export function Check({ name, checked, set }: CheckProps) {
  return (
    <label>
      <input
        type="checkbox"
        checked={checked}
        onChange={({ currentTarget }) => {
          set(currentTarget.checked);
        }}
      />
      {name}
    </label>
  );
}

/** The boxes of a detector, if they are in pixels of this very film. */
function Boxes({ detection, view }: { readonly detection: Detection; readonly view: View }) {
  const { boxes, film } = detection;
  if (film.width !== view.film.width || film.height !== view.film.height) return null;
  const size = film.width / 40;
  return (
    <>
      {boxes.map(({ x, y, width, height, label, score }, i) => (
        <g key={i}>
          <rect
            {...{ x, y, width, height }}
            fill="none"
            stroke={LINE}
            stroke-width={2 / zoom.value}
            vector-effect="non-scaling-stroke"
          />
          <text
            x={x + size / 4}
            y={y + size}
            fill={LINE}
            font-size={size}
            font-family="system-ui, sans-serif"
          >
            {wordsOf(label)} {percent(score)}
          </text>
        </g>
      ))}
    </>
  );
}

/** The colours of a map, from low to high. */
function Legend({ meaning }: { readonly meaning: string }) {
  const stops = [0, 0.2, 0.4, 0.6, 0.8, 1].map((share) => {
    const [r, g, b, a] = heatColour(share);
    return `rgb(${String(r)} ${String(g)} ${String(b)} / ${String(a / 255)})`;
  });
  return (
    <span class="legend">
      {meaning}: little
      <span
        role="img"
        aria-label={`Colours of ${meaning}`}
        style={{ background: `linear-gradient(90deg, ${stops.join(', ')})` }}
      />
      much
    </span>
  );
}

/** `label`: the class of Grad-CAM; empty: the predicted one. */
function overlaysOf({ id, images, models, results }: FilmDetails, label: string): Overlay[] {
  const cams = models
    .filter(({ gradCam }) => gradCam)
    .map(({ stage, labels }): Overlay => {
      const result = results[stage];
      const predicted = result !== undefined && isClassification(result) ? result.label : '';
      return {
        ...{ name: `Grad-CAM of ${stage}`, kind: 'map', url: gradCamUrl(id, stage, label), labels },
        meaning: `evidence for ${wordsOf(label || predicted)}`,
      };
    });
  const others = images.map(({ stage, field }): Overlay => {
    const kind = ({ reconstruction: 'film', mask: 'mask' } as const)[field] ?? 'map';
    const name = `${field} of ${stage}`;
    return { name, kind, url: resultUrl(id, stage, field), meaning: 'difference from normal', labels: [] };
  });
  return [...cams, ...others];
}

/** The output of the first of these stages that gives pixels, at full bit depth, with its id. */
async function firstPixels(id: string, stages: readonly string[]): Promise<[string, Pixels]> {
  let fault: unknown = new Error('The graph has no stage that decodes the film.');
  for (const stage of stages) {
    try {
      return [stage, await fetchPixels(id, stage)];
    } catch (error) {
      fault = error;
    }
  }
  throw fault;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
