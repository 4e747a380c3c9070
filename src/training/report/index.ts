export { explain } from '../evaluation/explain.js';
export { writeSegmentationReport } from './segmentation.js';
export { filmsToExplain, writeReport } from './report.js';
