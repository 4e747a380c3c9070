export { explain } from '../evaluation/explain.js';
export { filmsToExplain, writeReport } from './report.js';
