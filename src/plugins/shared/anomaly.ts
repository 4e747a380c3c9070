import type { Column } from '../../core/plugin.js';

/** What every anomaly stage offers to tabular sinks; the last ones only where somebody names them. */
export const ANOMALY_COLUMNS: readonly Column[] = [
  ...['anomalyScore', 'threshold', 'abnormal', 'suspicion', 'percentile'].map((name) => ({
    name,
    path: [name],
  })),
  ...['rawSum', 'robustZ'].map((name) => ({ name, path: [name], onRequest: true })),
];
