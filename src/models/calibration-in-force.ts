import type { Bundle } from './bundle.js';

/** With fewer normal films a threshold is mostly noise. */
export const ENOUGH_NORMALS = 50;

/** A bundle's thresholds and the films that they were set from, in a sentence. */
export function calibrationInForce({
  ownCalibration: own,
  calibration,
  reference,
}: Pick<Bundle, 'ownCalibration' | 'calibration' | 'reference'>): string {
  const thresholds = [
    ...(calibration?.binary ? [`threshold ${calibration.binary.threshold.toFixed(3)}`] : []),
    ...Object.entries(reference ?? {}).map(([method, { threshold }]) => `${method} ${threshold.toFixed(3)}`),
  ].join(', ');
  if (own === undefined) return `calibrated in training${thresholds === '' ? '' : `: ${thresholds}`}`;
  const { value, low, high } = own.specificity;
  const few =
    own.normals < ENOUGH_NORMALS
      ? `; fewer than ${ENOUGH_NORMALS} normal films: the threshold is uncertain`
      : '';
  return (
    `calibrated on ${own.normals} normal films of ${own.data} (${own.createdAt.slice(0, 10)}): ${thresholds}, ` +
    `specificity ${value.toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)})${few}`
  );
}
