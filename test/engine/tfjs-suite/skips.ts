import { LEFT_OUT } from '../../../src/engine/missing-kernel.js';
import type { Outcome } from './run-suite.js';

/** Tests of TensorFlow.js that fail here, and why. A title ending in `…` stands for all that begin so. */
interface Skips {
  readonly reason: string;
  readonly tests: readonly string[];
}

/** Tests of ops that are traced, but otherwise than these tests ask. */
const NAMED: readonly Skips[] = [
  {
    reason: 'what is not a number: ONNX defines it otherwise',
    tests: [
      'argmax ignores NaNs',
      'argmin ignores NaNs',
      'max return NaNs',
      'min return NaNs',
      'sign basic',
      'sign does not propagate NaNs',
      'sign accepts a tensor-like object',
      'step kernel with 1d tensor and alpha',
      'step kernel propagates NaNs',
    ],
  },
  {
    reason: 'the gradient is the derivative here, which it is not there (borders, repeated pixels)',
    tests: [
      'avgPool gradient x=[3,3,1] f=[3,3] s=1 p=explicit',
      'mirrorPad grad',
      'mirrorPad gradient with clones',
    ],
  },
  {
    reason: 'there is a gradient here and none there',
    tests: [
      'depthwiseConv2d gradients throws error on dilations > 1',
      'gradients errors if relevant ops are missing grads',
    ],
  },
  {
    reason: 'values and shapes are not checked when they are not known or contradict each other',
    tests: [
      'gather throws when index is out of bound',
      'conv2dTranspose input=8x8x8,output=4x4x8,f=8,s=1,inDepth=8,p=same vec4',
    ],
  },
  {
    reason: 'pools whose padding is as large as their window: ONNX Runtime refuses them',
    tests: [
      'pool max x=[2,2,3] f=[1,1] s=2 p=1 fractional outputs default rounding',
      'pool avg x=[2,2,3] f=[1,1] s=2 p=1 fractional outputs default rounding',
    ],
  },
  {
    reason: 'results whose size depends on values',
    tests: [
      'nonMaxSuppression NonMaxSuppressionPadded select from three clusters with no padding when pad option is false.',
    ],
  },
  {
    reason: 'float32 where TensorFlow.js computes in float64',
    tests: ['exp int32', 'tan numbers exceed float32 precision'],
  },
];

/** What came of the suite, the failures that are expected apart from those that are not. */
export interface Verdict {
  readonly passed: number;
  /** Number of skipped tests by reason. */
  readonly skipped: ReadonlyMap<string, number>;
  readonly failed: readonly Outcome[];
  /** Entries of the list that no failing test needs. */
  readonly stale: readonly string[];
}

/** Compares outcomes with the list. */
export function judge(outcomes: readonly Outcome[]): Verdict {
  const skipped = new Map<string, number>();
  const failed: Outcome[] = [];
  const used = new Set<string>();
  for (const outcome of outcomes.filter(({ passed }) => !passed)) {
    const expected = expectedFailure(outcome);
    if (expected) {
      used.add(expected.entry);
      skipped.set(expected.reason, (skipped.get(expected.reason) ?? 0) + 1);
    } else failed.push(outcome);
  }
  const stale = NAMED.flatMap(({ tests }) => tests).filter((entry) => !used.has(entry));
  return { passed: outcomes.filter(({ passed }) => passed).length, skipped, failed, stale };
}

function expectedFailure({ name, message = '' }: Outcome): { reason: string; entry: string } | undefined {
  for (const { reason, tests } of NAMED) {
    const entry = tests.find((title) =>
      title.endsWith('…') ? name.startsWith(title.slice(0, -1)) : name === title,
    );
    if (entry !== undefined) return { reason, entry };
  }
  if (message.includes('float32, int32 or bool tensors in a traced function, got string')) {
    return { reason: 'tensors of strings', entry: 'string' };
  }
  const kernel = /Kernel '([^']+)' not registered/.exec(message)?.[1];
  const leftOut = LEFT_OUT.find(({ kernels }) => kernel !== undefined && kernels.includes(kernel));
  return leftOut && { reason: leftOut.what, entry: leftOut.what };
}
