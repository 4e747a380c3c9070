import { activation } from './activation.js';
import { arithmetic } from './arithmetic.js';
import { comparison } from './comparison.js';
import { convolution } from './convolution.js';
import { indexing } from './indexing.js';
import { matmul } from './matmul.js';
import { normalization } from './normalization.js';
import { pooling } from './pooling.js';
import { rearranging } from './rearranging.js';
import { reduction } from './reduction.js';
import type { KernelDefinition } from './registry.js';
import { resampling } from './resampling.js';
import { shape } from './shape.js';

/** Every traced kernel, grouped as the field groups them. */
export const KERNEL_GROUPS: Readonly<Record<string, readonly KernelDefinition[]>> = {
  arithmetic,
  comparison,
  activation,
  reduction,
  shape,
  indexing,
  rearranging,
  resampling,
  matmul,
  convolution,
  pooling,
  normalization,
};
