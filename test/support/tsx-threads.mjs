// tsx registers itself on the main thread only; worker threads inherit `--import`, so this registers it there.
import { isMainThread } from 'node:worker_threads';
import { register } from 'tsx/esm/api';

if (!isMainThread) register();
