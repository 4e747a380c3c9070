import type { TopLevelSpec } from 'vega-lite';
import { operatingPoints, type Ranking } from '../evaluation/ranking.js';
import type { ReliabilityBin } from '../evaluation/calibrate.js';

/** Distinct for readers with any colour vision, and legible on white and on black (after Okabe and Ito). */
export const PALETTE = ['#3b82c4', '#e0813a', '#2f9e77', '#b565a7', '#9a8f1d', '#c9514f'];

type Row = Readonly<Record<string, unknown>>;
type Unit = Record<string, unknown>;

/** A chart as an SVG element whose text and grid take the page's colours. */
export async function chart(spec: object): Promise<string> {
  const [{ parse, View }, { compile }] = await Promise.all([import('vega'), import('vega-lite')]);
  const whole = {
    background: 'transparent',
    width: 460,
    height: 340,
    autosize: { type: 'fit', contains: 'padding' },
    config: {
      font: 'system-ui, sans-serif',
      range: { category: PALETTE },
      view: { stroke: null },
      axis: { labelFontSize: 12, titleFontSize: 12, titleFontWeight: 'normal', tickCount: 5 },
      legend: { title: null, labelFontSize: 12, orient: 'bottom', columns: 4, labelLimit: 260 },
    },
    ...spec,
  } as unknown as TopLevelSpec;
  const view = new View(parse(compile(whole).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}

/** Sensitivity against false alarms, one line per ranking. */
export function rocChart(rankings: Readonly<Record<string, Ranking>>): object {
  const rows = Object.entries(rankings).flatMap(([name, ranking]) => {
    const points = operatingPoints(ranking);
    const all = points.at(-1);
    return points.map(({ truePositives, falsePositives }, order) => ({
      name,
      order,
      x: falsePositives / Math.max(1, all?.falsePositives ?? 1),
      y: truePositives / Math.max(1, all?.truePositives ?? 1),
    }));
  });
  return {
    layer: [
      diagonal([0, 0], [1, 1]),
      line(rows, 'False alarms among the other films (1 − specificity)', 'Sensitivity'),
    ],
  };
}

/** Precision against recall, one line per ranking. */
export function precisionRecallChart(rankings: Readonly<Record<string, Ranking>>): object {
  const rows = Object.entries(rankings).flatMap(([name, ranking]) => {
    const points = operatingPoints(ranking).slice(1);
    const positives = points.at(-1)?.truePositives ?? 1;
    return points.map(({ truePositives, falsePositives }, order) => ({
      name,
      order,
      x: truePositives / Math.max(1, positives),
      y: truePositives / (truePositives + falsePositives),
    }));
  });
  return { layer: [line(rows, 'Recall (sensitivity)', 'Precision')] };
}

/** The share of correct films by the probability that the model gives; calibrated on the diagonal. */
export function reliabilityChart(bins: Readonly<Record<string, readonly ReliabilityBin[]>>): object {
  const rows = Object.entries(bins).flatMap(([name, all]) =>
    all.flatMap(({ confidence, accuracy, films }, order) =>
      films === 0 ? [] : [{ name, order, x: confidence, y: accuracy, films }],
    ),
  );
  const encoding = {
    ...axes('Probability that the model gives', 'Share of correct films'),
    color: { field: 'name', type: 'nominal', sort: null },
  };
  return {
    layer: [
      diagonal([0, 0], [1, 1]),
      { data: { values: rows }, mark: { type: 'line', strokeWidth: 2 }, encoding },
      {
        data: { values: rows },
        mark: { type: 'circle', opacity: 0.85 },
        encoding: {
          ...encoding,
          size: { field: 'films', type: 'quantitative', legend: null, scale: { range: [20, 300] } },
        },
      },
    ],
  };
}

/** Scores of the films by class, with the threshold. */
export function histogram(
  scores: readonly number[],
  classes: readonly string[],
  threshold: number,
  title: string,
): object {
  const rows = scores.map((score, i) => ({ score, name: classes[i] }));
  const layers: Unit[] = [
    {
      data: { values: rows },
      mark: { type: 'bar', opacity: 0.75 },
      encoding: {
        x: { field: 'score', type: 'quantitative', bin: { maxbins: 40 }, title },
        y: { aggregate: 'count', type: 'quantitative', title: 'Films', stack: 'zero' },
        color: { field: 'name', type: 'nominal' },
      },
    },
  ];
  if (Number.isFinite(threshold)) {
    layers.push({
      data: { values: [{ threshold }] },
      mark: { type: 'rule', strokeDash: [5, 4], strokeWidth: 1.5, color: '#888' },
      encoding: { x: { field: 'threshold', type: 'quantitative' } },
    });
  }
  return { layer: layers };
}

/** Every number of the history by epoch: losses in one chart, the rest in another. */
export function learningCharts(history: readonly Row[]): { title: string; spec: object }[] {
  const hidden = new Set(['epoch', 'seconds', 'learningRate', 'best']);
  const names = [...new Set(history.flatMap((row) => Object.keys(row)))].filter(
    (name) => !hidden.has(name) && history.some((row) => typeof row[name] === 'number'),
  );
  const charts = (['Losses', 'Figures'] as const).map((title) => {
    const mine = names.filter((name) => /loss/i.test(name) === (title === 'Losses'));
    const rows = mine.flatMap((name) =>
      history.flatMap((row) => {
        const y = row[name];
        return typeof y === 'number' ? [{ name, order: row.epoch, x: row.epoch, y }] : [];
      }),
    );
    return { title, rows };
  });
  return charts
    .filter(({ rows }) => rows.length > 0)
    .map(({ title, rows }) => ({
      title,
      spec: { layer: [line(rows, 'Epoch', title, { zero: false }, {})] },
    }));
}

/** Films as dots in the plane. */
export function scatter(points: readonly (readonly [number, number])[], classes: readonly string[]): object {
  const rows = points.map(([x, y], i) => ({ x, y, name: classes[i] }));
  const axis = { type: 'quantitative', axis: null, scale: { zero: false } };
  return {
    data: { values: rows },
    mark: { type: 'circle', size: 22, opacity: 0.75 },
    encoding: {
      x: { field: 'x', ...axis },
      y: { field: 'y', ...axis },
      color: { field: 'name', type: 'nominal' },
    },
  };
}

function line(rows: readonly object[], x: string, y: string, scale: object = UNIT, xScale = scale): Unit {
  return {
    data: { values: rows },
    mark: { type: 'line', strokeWidth: 2, interpolate: 'linear' },
    encoding: {
      ...axes(x, y, scale, xScale),
      order: { field: 'order', type: 'quantitative' },
      color: { field: 'name', type: 'nominal', sort: null },
    },
  };
}

const UNIT = { domain: [0, 1] };

function axes(x: string, y: string, scale: object = UNIT, xScale = scale): Unit {
  return {
    x: { field: 'x', type: 'quantitative', title: x, scale: xScale },
    y: { field: 'y', type: 'quantitative', title: y, scale },
  };
}

function diagonal(from: readonly [number, number], to: readonly [number, number]): Unit {
  return {
    data: { values: [from, to].map(([x, y]) => ({ x, y })) },
    mark: { type: 'line', strokeDash: [4, 4], strokeWidth: 1, color: '#888' },
    encoding: { x: { field: 'x', type: 'quantitative' }, y: { field: 'y', type: 'quantitative' } },
  };
}
