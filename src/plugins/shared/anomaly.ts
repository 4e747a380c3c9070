import type { Column } from '../../core/plugin.js';

/** What every anomaly stage offers to tabular sinks. */
export const ANOMALY_COLUMNS: readonly Column[] = [
  'anomalyScore',
  'rawSum',
  'percentile',
  'robustZ',
  'abnormal',
].map((name) => ({ name, path: [name] }));
