import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { EngineError } from './errors.js';
import { allowExplicitPadding } from './explicit-padding.js';
import { registerAllGradients } from './gradients/index.js';
import { fromNumbers } from './graph.js';
import type { HostTensors } from './host-tensor.js';
import type { TensorMap, TraceableFunction } from './trace.js';

/** The packages of `runtime: tensorflow`, the preferred first. */
const PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'] as const;
const BUILD_SCRIPT = fileURLToPath(new URL('../../scripts/tensorflow-node.sh', import.meta.url));

/** How to install native TensorFlow: with Google's download of libtensorflow, and without. */
export const TENSORFLOW_INSTALL =
  'npm install @tensorflow/tfjs-node-gpu --ignore-scripts=false (without a GPU: @tensorflow/tfjs-node); ' +
  `where libtensorflow cannot be downloaded: bash ${BUILD_SCRIPT} .`;

/** A TensorFlow.js backend that runs functions eagerly. */
export interface TensorFlowRuntime {
  /** Name of the TensorFlow.js backend. */
  readonly backend: string;
  /** Runs a function that could also be traced, with host tensors in and out. */
  run(fn: TraceableFunction, inputs: HostTensors, variables: HostTensors): Promise<HostTensors>;
}

/**
 * Loads native TensorFlow, for `runtime: tensorflow`: `@tensorflow/tfjs-node-gpu`, else `@tensorflow/tfjs-node`. Rejects
 * with {@link EngineError} `missing-package` and the install line when neither is there; there is no slow substitute.
 */
export async function loadTensorFlow(
  importPackage: (name: string) => Promise<unknown> = (name) => import(name),
): Promise<TensorFlowRuntime> {
  restoreUtilHelpers();
  const failures: string[] = [];
  for (const name of PACKAGES) {
    try {
      await importPackage(name);
      allowExplicitPadding('tensorflow');
      return await runtimeOn('tensorflow');
    } catch (error) {
      failures.push(
        `${name}: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`,
      );
    }
  }
  throw new EngineError(
    'missing-package',
    `The runtime "tensorflow" needs a package that is not installed or does not load. Install it with: ${TENSORFLOW_INSTALL}. ` +
      `Tried ${failures.join('; ')}`,
  );
}

/** Runs functions eagerly on a registered TensorFlow.js backend. */
export async function runtimeOn(backend: string): Promise<TensorFlowRuntime> {
  registerAllGradients();
  // The declared return type leaves out that an unknown backend gives null.
  const factory = tf.findBackendFactory(backend) as (() => unknown) | null;
  if (factory === null || !(await tf.setBackend(backend))) {
    throw new EngineError('missing-package', `TensorFlow.js has no backend "${backend}".`);
  }
  return {
    backend,
    async run(fn, inputs, variables) {
      await tf.setBackend(backend);
      const given = { inputs: toTensors(inputs), variables: toTensors(variables) };
      const results = tf.tidy(() => fn(given.inputs, given.variables));
      try {
        const host: HostTensors = {};
        for (const [name, tensor] of Object.entries(results)) {
          const values = await tensor.data();
          host[name] = {
            data: fromNumbers(values, tensor.dtype === 'int32' ? 'int32' : 'float32'),
            dims: tensor.shape,
          };
        }
        return host;
      } finally {
        tf.dispose([results, given.inputs, given.variables]);
      }
    },
  };
}

function toTensors(tensors: HostTensors): TensorMap {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { data, dims }]) => {
      const tensor =
        data instanceof Float32Array
          ? tf.tensor(data, [...dims], 'float32')
          : tf.tensor(Int32Array.from(data, Number), [...dims], 'int32');
      return [name, tensor];
    }),
  );
}

/** tfjs-node calls `util` helpers that Node removed in version 23. */
function restoreUtilHelpers(): void {
  const util = createRequire(import.meta.url)('node:util') as Record<string, unknown>;
  util['isNullOrUndefined'] ??= (value: unknown) => value === null || value === undefined;
  util['isArray'] ??= (value: unknown) => Array.isArray(value);
}
