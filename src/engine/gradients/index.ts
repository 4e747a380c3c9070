import { convolutionalGradients } from './convolutional.js';
import { elementwiseGradients } from './elementwise.js';
import { registerGradients, type GradientRule } from './gradient.js';
import { indexingGradients } from './indexing.js';
import { registerListGradients, structuralGradients } from './structural.js';

/**
 * Every gradient rule. TensorFlow.js' own rules are ES modules without file extensions, which Node cannot import; these
 * also make smaller graphs.
 */
export const GRADIENT_RULES: readonly GradientRule[] = [
  ...elementwiseGradients,
  ...structuralGradients,
  ...indexingGradients,
  ...convolutionalGradients,
];

/** Registers every gradient rule, replacing existing ones; may be called again. */
export function registerAllGradients(): void {
  registerGradients(GRADIENT_RULES);
  registerListGradients();
}
