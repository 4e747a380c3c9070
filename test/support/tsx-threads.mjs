// tsx registers itself on the main thread only; worker threads inherit `--import`, so this registers it there.
import { isMainThread } from 'node:worker_threads';
import { register } from 'tsx/esm/api';
import { buildKernels } from '../../scripts/kernels.mjs';

if (!isMainThread) register();
else if (!buildKernels()) process.exit(2);
