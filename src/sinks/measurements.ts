import { z } from 'zod';
import type { Anomaly, Classification, Frame, StageResult } from '../core/frame.js';
import { isShadow } from '../core/verdict.js';

/** UCUM codes. */
export type Unit = '{ratio}' | '%' | '1';

/** One statement of a report about a film. `name` is English, and the same for the same thing. */
export type Measurement = { readonly name: string } & (
  | { readonly value: number; readonly unit: Unit }
  /** A label of the model. */
  | { readonly finding: string }
  | { readonly answer: boolean }
);

/** A box that a stage has found. */
export const region = z.object({
  x: z.number(),
  y: z.number(),
  width: z.number().min(0),
  height: z.number().min(0),
  label: z.string().optional(),
  score: z.number().optional(),
});
/** A region in pixels of the film. */
export type Region = z.output<typeof region>;
const lung = z.object({ areaFraction: z.number(), box: region });

/** Any result may have the verdict of a calibrated model. */
const verdict = z.object({
  abnormal: z.boolean().nullish(),
  suspicion: z.number().nullish(),
  threshold: z.number().nullish(),
});

/** What a stage has found, for reports. */
export interface Findings {
  readonly stage: string;
  readonly measurements: readonly Measurement[];
  readonly regions: readonly Region[];
  /** Null if the model is not calibrated. */
  readonly abnormal: boolean | null;
}

/** What the stages have found, without those that found nothing that can be reported, and without `shadow` stages. */
export function findingsOf(frame: Frame): Findings[] {
  return Object.entries(frame.results)
    .filter(([, result]) => !isShadow(result))
    .map(([stage, result]) => ({
      stage,
      measurements: [...measurementsOf(result), ...verdictOf(result)],
      regions: fitsFilm(frame, { ...result }) ? regionsOf({ ...result }) : [],
      abnormal: verdict.safeParse(result).data?.abnormal ?? null,
    }))
    .filter(({ measurements, regions }) => measurements.length + regions.length > 0);
}

function measurementsOf(result: StageResult): Measurement[] {
  if (result.kind === 'classification') {
    const { label, probabilities, positives } = result as Classification;
    return [
      ...Object.entries(probabilities).map(([name, value]) => ratio(`Probability of ${name}`, value)),
      ...(positives ?? [label]).map((finding) => ({ name: 'Finding', finding })),
    ];
  }
  if (result.kind === 'anomaly') {
    const { anomalyScore, percentile } = result as Anomaly;
    return [
      { name: 'Anomaly score', value: anomalyScore, unit: '1' },
      ...(percentile === null
        ? []
        : [{ name: 'Percentile among normal films', value: percentile, unit: '%' } as const]),
    ];
  }
  if (result.kind === 'segmentation') {
    const { areaFraction, plausible, left, right } = result as Record<string, unknown>;
    const areas = {
      'the lungs': areaFraction,
      'the lung at the left of the image': lungOf(left),
      'the lung at the right of the image': lungOf(right),
    };
    return [
      ...Object.entries(areas).flatMap(([name, area]) =>
        typeof area === 'number' ? [ratio(`Area of ${name}, of the film`, area)] : [],
      ),
      ...(typeof plausible === 'boolean' ? [{ name: 'Lungs are plausible', answer: plausible }] : []),
    ];
  }
  return [];
}

function ratio(name: string, value: number): Measurement {
  return { name, value, unit: '{ratio}' };
}

function lungOf(value: unknown): number | undefined {
  return lung.safeParse(value).data?.areaFraction;
}

function verdictOf(result: StageResult): Measurement[] {
  const { abnormal, suspicion, threshold } = verdict.safeParse(result).data ?? {};
  return [
    ...(typeof suspicion === 'number' ? [ratio('Suspicion', suspicion)] : []),
    ...(typeof threshold === 'number'
      ? [{ name: 'Threshold of the model', value: threshold, unit: '1' } as const]
      : []),
    ...(typeof abnormal === 'boolean'
      ? [{ name: 'Verdict: above the threshold of the model', answer: abnormal }]
      : []),
  ];
}

/** Whether a result is in pixels of the film: an earlier stage may have cut or resized the image. */
export function fitsFilm({ meta }: Frame, { film }: Record<string, unknown>): boolean {
  const size = z.object({ width: z.number(), height: z.number() }).safeParse(film).data;
  return size !== undefined && size.width === meta['width'] && size.height === meta['height'];
}

function regionsOf(result: Record<string, unknown>): Region[] {
  const found = z.array(region).safeParse(result['boxes']).data ?? [];
  const lungs = (['left', 'right'] as const).flatMap((side) => {
    const known = lung.safeParse(result[side]).data;
    return known === undefined ? [] : [{ ...known.box, label: `lung at the ${side} of the image` }];
  });
  return [...found, ...lungs];
}
