import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { compileExpression } from '../core/expression.js';
import type { SinkServices, SourceServices } from '../core/plugin.js';

/** The services for plugins of any kind, and helpers for tests. */
export interface TestServices extends SourceServices, SinkServices {
  /** Every line that the plugin logged, as JSON. */
  readonly logged: readonly string[];
  /** Aborts `signal`, as when the graph is closed. */
  abort(): void;
  /** Removes the temporary folder; otherwise it is removed when the process ends. */
  cleanup(): void;
}

/** What a test may set; the rest comes from {@link testServices}. */
export type TestServicesOptions = Partial<SourceServices & SinkServices>;

const folders = new Set<string>();
let removesAtExit = false;

function temporaryFolder(): string {
  if (!removesAtExit) {
    removesAtExit = true;
    process.once('exit', () => {
      folders.forEach(remove);
    });
  }
  const folder = mkdtempSync(join(tmpdir(), 'rxray-test-'));
  folders.add(folder);
  return folder;
}

function remove(folder: string): void {
  folders.delete(folder);
  rmSync(folder, { recursive: true, force: true });
}

/**
 * Services as in a run, with their own temporary folder. Add what the stage `needs`: `{ ...testServices(), engine }`.
 */
export function testServices(options: TestServicesOptions = {}): TestServices {
  const folder = temporaryFolder();
  const { baseDir = folder } = options;
  const logged: string[] = [];
  const record =
    (level: string) =>
    (fields: object, message: string): void => {
      logged.push(JSON.stringify({ level, message, ...fields }));
    };
  const aborter = new AbortController();
  return {
    id: 'tested',
    log: { debug: record('debug'), info: record('info'), warn: record('warn'), error: record('error') },
    baseDir,
    stateDir: join(folder, '.rxray'),
    unread: (name, reason) => void logged.push(JSON.stringify({ level: 'unread', name, reason })),
    leftAlone: (files) => void logged.push(JSON.stringify({ level: 'leftAlone', files })),
    outage: (reason) => void logged.push(JSON.stringify({ level: 'outage', reason })),
    signal: aborter.signal,
    resolve: (path) => resolve(baseDir, path),
    once: false,
    again: false,
    unsettled: async (candidates) => [...candidates],
    columns: [],
    stages: [],
    expression: compileExpression,
    ...options,
    logged,
    abort: () => aborter.abort(),
    cleanup: () => remove(folder),
  };
}
