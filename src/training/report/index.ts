export { writeDetectionReport } from './detection.js';
export { explain } from '../evaluation/explain.js';
export { writeSegmentationReport } from './segmentation.js';
export { filmsToExplain } from './films.js';
export { writeReport } from './report.js';
