import { basename } from 'node:path';
import type { Pipeline, SinkNode, SourceNode, StageNode } from '../core/config/pipeline.js';
import type { Kind } from '../core/plugin.js';
import { layOut, type Point, type Size } from '../control/layout.js';
import type { Live, LiveNode } from '../control/live.js';

/** What a picture of a pipeline shows. It contains no values from the environment. */
export interface Drawing {
  readonly name: string;
  readonly cards: readonly Card[];
  readonly arrows: readonly Arrow[];
  /** The workers that run the stages, one line each. */
  readonly workers?: readonly string[];
}

interface Card {
  readonly id: string;
  readonly kind: Kind;
  /** The plugin, unless the id names it, and a few settings. */
  readonly lines: readonly string[];
  /** Its current figures. */
  readonly live?: string;
  /** Whether it is the bottleneck. */
  readonly limiting?: boolean;
}

interface Arrow {
  readonly from: string;
  readonly to: string;
  /** The condition for this branch. */
  readonly when?: string;
}

/** Maximum number of settings shown per entry. */
const MAX_SETTINGS = 3;
const MAX_TEXT = 28;
const MAX_CONDITION = 44;
const SECRET = /secret|token|passw|auth|key|header/i;

/** With `live`, each entry shows its current figures, and the bottleneck is marked. */
export function drawingOf(pipeline: Pipeline, live?: Live): Drawing {
  const { name, sources, stages, sinks } = pipeline;
  const card = (kind: Kind, node: SourceNode | StageNode | SinkNode): Card => {
    const { batch, concurrency } = node as Partial<StageNode>;
    const plugin = node.plugin.name === node.id ? [] : [node.plugin.name];
    const running = live?.nodes.find(({ id }) => id === node.id);
    const host = [
      ...(batch === undefined ? [] : [`batch ${batch.size}`]),
      ...(concurrency === undefined ? [] : [`concurrency ${concurrency}`]),
    ];
    return {
      id: node.id,
      kind,
      lines: [...plugin, ...settingsOf(node.written.with), ...host].map((line) => short(line)),
      ...(running !== undefined && { live: doing(running), limiting: running.id === live?.limiting }),
    };
  };
  const arrows = [...stages, ...sinks].flatMap(({ id, from, written: { when } }) =>
    from.map((before) => ({
      from: before,
      to: id,
      ...(typeof when === 'string' ? { when: short(when, MAX_CONDITION) } : {}),
    })),
  );
  const cards = [
    ...sources.map((node) => card('source', node)),
    ...stages.map((node) => card('stage', node)),
    ...sinks.map((node) => card('sink', node)),
  ];
  const workers = live?.cluster?.workers.map(
    ({ name: worker, through, films, filmsPerSecond }) =>
      `${worker} · ${String(through)} through · ${String(films)} in progress` +
      (filmsPerSecond === null ? '' : ` · ${filmsPerSecond.toFixed(1)}/s`),
  );
  return { name, cards, arrows, ...(workers !== undefined && { workers }) };
}

/** `12.3/s · 4 wait · 97 % busy`: zeros are left out. */
function doing({ framesPerSecond, queue, busy, errors }: LiveNode): string {
  return [
    `${framesPerSecond.toFixed(1)}/s`,
    ...(queue > 0 ? [`${queue} wait`] : []),
    ...(busy === null ? [] : [`${Math.round(busy * 100)} % busy`]),
    ...(errors > 0 ? [`${errors} failed`] : []),
  ].join(' · ');
}

/** `clipLimit 2`, `bundle chest-resnet`: numbers, switches and the last part of a path; never a secret or an address. */
function settingsOf(written: unknown): string[] {
  const shown = Object.entries(written ?? {}).flatMap(([key, value]) => {
    if (SECRET.test(key)) return [];
    if (typeof value === 'number' || typeof value === 'boolean') return [`${key} ${String(value)}`];
    if (typeof value !== 'string' || /\$\{|:|@/.test(value)) return [];
    return [`${key} ${basename(value)}`];
  });
  return shown.length > MAX_SETTINGS ? [...shown.slice(0, MAX_SETTINGS), '…'] : shown;
}

function short(text: string, length = MAX_TEXT): string {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

// ── Mermaid ───────────────────────────────────────────────────────────────────────────────────────

const SHAPES: Readonly<Record<Kind, readonly [string, string]>> = {
  source: ['([', '])'],
  stage: ['[', ']'],
  sink: ['[/', '/]'],
};

/** The drawing as a Mermaid flow chart. */
export function toMermaid({ cards, arrows, workers }: Drawing): string {
  const nodes = cards.map(({ id, kind, lines, live, limiting }) => {
    const [open, close] = SHAPES[kind];
    const now = live === undefined ? [] : [`<i>${escapeMermaid(live)}</i>`];
    const text = [`<b>${id}</b>`, ...lines.map(escapeMermaid), ...now].join('<br>');
    return `  ${mermaidId(id)}${open}"${text}"${close}:::${limiting === true ? 'limiting' : kind}`;
  });
  if (workers !== undefined) {
    const text = ['<b>workers</b>', ...workers.map(escapeMermaid)].join('<br>');
    nodes.push(`  workers["${text}"]:::stage`);
  }
  const edges = arrows.map(
    ({ from, to, when }) =>
      `  ${mermaidId(from)} -->${when === undefined ? '' : `|"${escapeMermaid(when)}"|`} ${mermaidId(to)}`,
  );
  const colors = cards.some(({ limiting }) => limiting) ? { ...COLORS, limiting: LIMITING } : COLORS;
  const classes = Object.entries(colors).map(
    ([kind, { fill, line }]) => `  classDef ${kind} fill:${fill},stroke:${line},color:${INK}`,
  );
  return ['flowchart LR', ...nodes, ...edges, ...classes].join('\n');
}

/** Words such as `end` are keywords of Mermaid. */
function mermaidId(id: string): string {
  return `n_${id}`;
}

function escapeMermaid(text: string): string {
  return text
    .replaceAll('#', '#35;')
    .replaceAll('"', '#quot;')
    .replaceAll('<', '#lt;')
    .replaceAll('>', '#gt;');
}

// ── SVG ───────────────────────────────────────────────────────────────────────────────────────────

const INK = '#1b2733';
const FAINT = '#5f7081';
const COLORS: Readonly<Record<Kind, { fill: string; line: string }>> = {
  source: { fill: '#e3f4ee', line: '#2a9d78' },
  stage: { fill: '#eaf1fb', line: '#3f78c5' },
  sink: { fill: '#f4ecfa', line: '#8a55b8' },
};
/** The bottleneck. */
const LIMITING = { fill: '#fff1db', line: '#c26a00' };
const FONT = "font-family=\"Inter, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif\"";
const MARGIN = 32;
const HEADER = 44;
const TITLE = 32;
const LINE = 17;
const PADDING = 16;

/** The drawing as an SVG image, left to right. */
export function toSvg({ name, cards, arrows, workers = [] }: Drawing): string {
  const sizes = new Map(cards.map((card) => [card.id, sizeOf(card)]));
  const shapes = arrows.map(({ from, to, when }) => {
    const label = when === undefined ? undefined : { width: textWidth(when, 11) + 24, height: 20 };
    return { from, to, label };
  });
  const { width, height, ...drawn } = layOut(sizes, shapes, { nodesep: 26, ranksep: 48, margin: MARGIN });
  const widest = Math.max(textWidth(name, 18), ...workers.map((line) => textWidth(line, 12)));
  const size = {
    width: Math.ceil(Math.max(width, widest + 2 * MARGIN)),
    height: Math.ceil(height) + HEADER + workers.length * LINE,
  };
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${size.width}" height="${size.height}" viewBox="0 0 ${size.width} ${size.height}" ${FONT}>`,
    `<title>${escapeXml(name)}</title>`,
    `<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M1 1 9 5 1 9" fill="none" stroke="${FAINT}" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"/></marker></defs>`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="${MARGIN}" y="40" font-size="18" font-weight="600" fill="${INK}">${escapeXml(name)}</text>`,
    `<g transform="translate(0 ${HEADER})">`,
    ...drawn.arrows.map(
      ({ path }) =>
        `<path d="${path}" fill="none" stroke="${FAINT}" stroke-width="1.5" marker-end="url(#tip)"/>`,
    ),
    ...arrows.flatMap(({ when }, i) => (when === undefined ? [] : [pill(when, drawn.arrows[i]?.label)])),
    ...cards.map((card) => cardSvg(card, sizeOf(card), drawn.boxes.get(card.id))),
    ...workers.map(
      (line, index) =>
        `<text x="${MARGIN}" y="${Math.ceil(height) + index * LINE}" font-size="12" fill="${FAINT}">${escapeXml(line)}</text>`,
    ),
    '</g>',
    '</svg>',
  ].join('\n');
}

function sizeOf({ id, kind, lines, live }: Card): Size {
  const rows = lines.length + (live === undefined ? 0 : 1);
  const widest = Math.max(
    textWidth(id, 15) * 1.06 + textWidth(kind, 9) + 26,
    ...lines.map((line) => textWidth(line, 12)),
    textWidth(live ?? '', 12),
  );
  return {
    width: Math.ceil(widest + 2 * PADDING),
    height: TITLE + rows * LINE + (rows === 0 ? 4 : 10),
  };
}

function cardSvg(
  { id, kind, lines, live, limiting }: Card,
  { width, height }: Size,
  { x, y }: Point = { x: 0, y: 0 },
): string {
  const { fill, line } = limiting === true ? LIMITING : COLORS[kind];
  const [left, top] = [round(x - width / 2), round(y - height / 2)];
  const text = lines.map(
    (content, index) =>
      `<text x="${PADDING}" y="${TITLE + 13 + index * LINE}" font-size="12" fill="${FAINT}">${escapeXml(content)}</text>`,
  );
  if (live !== undefined) {
    text.push(
      `<text x="${PADDING}" y="${TITLE + 13 + lines.length * LINE}" font-size="12" font-weight="600" fill="${line}">${escapeXml(live)}</text>`,
    );
  }
  return [
    `<g transform="translate(${left} ${top})">`,
    `<rect width="${round(width)}" height="${round(height)}" rx="9" fill="${fill}" stroke="${line}" stroke-width="1.4"/>`,
    `<text x="${PADDING}" y="23" font-size="15" font-weight="600" fill="${INK}">${escapeXml(id)}</text>`,
    `<text x="${round(width - 10)}" y="18" font-size="9" letter-spacing="0.6" text-anchor="end" fill="${line}">${kind}</text>`,
    ...text,
    '</g>',
  ].join('');
}

function pill(when: string, { x, y }: Point = { x: 0, y: 0 }): string {
  const width = textWidth(when, 11) + 22;
  return `<rect x="${round(x - width / 2)}" y="${round(y - 10)}" width="${round(width)}" height="20" rx="10" fill="#fff8e6" stroke="#d8a93a"/><text x="${round(x)}" y="${round(y + 4)}" font-size="11" text-anchor="middle" fill="${INK}">${escapeXml(when)}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** An upper bound of the width of a text in a sans-serif font of `size` pixels. */
function textWidth(text: string, size: number): number {
  return text.length * size * 0.6;
}

function escapeXml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
