/**
 * Runs one module of tests with node:test, for `rxray test FILE.ts`. The module may import `rxray`, `rxray/testing`,
 * `zod` and `rxjs` without installing them.
 *
 * @module
 */
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { importForeign } from '../core/plugins/load.js';
import * as testing from '../testing.js';

const [, , file = ''] = process.argv;
// The contract suites use the runner's globals, as with other runners.
Object.assign(globalThis, { describe, it });
await importForeign(pathToFileURL(resolve(file)).href, { 'rxray/testing': testing });
