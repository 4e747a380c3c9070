/**
 * Runs one module of tests by node:test, as `rxray test FILE.ts` asks for: the module may import `rxray`,
 * `rxray/testing`, `zod` and `rxjs` without having them installed.
 *
 * @module
 */
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { importForeign } from '../core/plugins/load.js';
import * as testing from '../testing.js';

const [, , file = ''] = process.argv;
// The contract suites take the runner's globals, as other runners have them.
Object.assign(globalThis, { describe, it });
await importForeign(pathToFileURL(resolve(file)).href, { 'rxray/testing': testing });
