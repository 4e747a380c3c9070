export { pixels } from './memory';
export { clahe8, clahe16 } from './clahe';
export { jpeg } from './jpeg';
export { unfilter } from './png';
export { area8, area16 } from './area';
