import type { Column } from '../../core/plugin.js';

/** The columns of every anomaly stage; the last ones only on request. */
export const ANOMALY_COLUMNS: readonly Column[] = [
  ...['anomalyScore', 'threshold', 'abnormal', 'suspicion', 'percentile'].map((name) => ({
    name,
    path: [name],
  })),
  ...['rawSum', 'robustZ'].map((name) => ({ name, path: [name], onRequest: true })),
];
