export { pixels } from './memory';
export { clahe8, clahe16 } from './clahe';
