import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';

export interface Series {
  readonly label: string;
  readonly values: readonly number[];
}

interface ChartProps {
  readonly kind: 'line' | 'bars';
  readonly x: readonly number[];
  /** Length of the x axis in seconds, also while `x` is shorter. Default: as long as `x`. */
  readonly span?: number;
  readonly series: readonly Series[];
  /** Text for screen readers. */
  readonly label: string;
  /** Names of the bars; otherwise `x` is in seconds since 1970 for lines, a plain number for bars. */
  readonly ticks?: readonly string[];
}

const HEIGHT = 180;

/** A canvas keeps its colours: charts are redrawn when the colour scheme changes. */
const dark = matchMedia('(prefers-color-scheme: dark)');
const isDark = signal(dark.matches);
dark.addEventListener('change', () => {
  isDark.value = dark.matches;
});

/** A chart in the page's colours, as wide as its container. */
export function Chart({ kind, x, span = 0, series, label, ticks }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);

  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const color = (name: string): string => {
      element.style.color = `var(${name})`;
      return getComputedStyle(element).color;
    };
    const axis = {
      stroke: color('--muted'),
      grid: { stroke: color('--line') },
      ticks: { stroke: color('--line') },
    };
    const bars = kind === 'bars' ? uPlot.paths.bars?.({ size: [0.9] }) : undefined;
    plot.current = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        cursor: { show: false },
        legend: { show: series.length > 1, live: false },
        scales: {
          x:
            kind === 'line'
              ? { time: true, range: (_, min, max) => [Math.min(min, max - span), max] }
              : { time: false, range: [-0.5, x.length - 0.5] },
          y: { range: (_, __, max) => [0, Math.max(max * 1.1, 0.1)] },
        },
        axes: [
          {
            ...axis,
            ...(ticks !== undefined && {
              values: (_: uPlot, at: number[]) => at.map((i) => ticks[i] ?? ''),
              grid: { show: false },
            }),
          },
          axis,
        ],
        series: [
          {},
          ...series.map((one, i): uPlot.Series => {
            const stroke = color(i === 0 ? '--accent' : '--second');
            return {
              label: one.label,
              stroke,
              fill:
                kind === 'line' || i === 0
                  ? stroke.replace('rgb(', 'rgba(').replace(')', ', 0.25)')
                  : 'transparent',
              points: { show: false },
              ...(bars !== undefined && { paths: bars }),
            };
          }),
        ],
      },
      dataOf(x, series),
      element,
    );
    const observer = new ResizeObserver(() =>
      plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }),
    );
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
    };
  }, [kind, span, isDark.value]);

  useEffect(() => {
    plot.current?.setData(dataOf(x, series));
  }, [x, series]);
  return <div class="chart" ref={place} role="img" aria-label={label} />;
}

function dataOf(x: readonly number[], series: readonly Series[]): uPlot.AlignedData {
  return [[...x], ...series.map(({ values }) => [...values])];
}
