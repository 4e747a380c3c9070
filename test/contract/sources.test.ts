import { appendFile, mkdtemp, open, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import manifest from '../../src/plugins/manifest.js';
import watch from '../../src/plugins/watch.js';
import { sourceContract } from '../../src/testing.js';

/** With announcements by the operating system: test/plugins/watch.test.ts. */
sourceContract('watch, polling', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-watch-'));
  const elsewhere = await mkdtemp(join(tmpdir(), 'rxray-watch-'));
  return {
    plugin: watch,
    with: { path: folder, settleMs: 200, scanMs: 100, polling: true },
    refused: [
      {},
      { path: folder, settleMs: -1 },
      { path: folder, onDone: 'move' },
      { path: folder, moveTo: elsewhere },
    ],
    async put(name, bytes) {
      await writeFile(join(elsewhere, name), bytes);
      await rename(join(elsewhere, name), join(folder, name));
    },
    async begin(name) {
      const file = await open(join(folder, name), 'w');
      return {
        append: async (bytes) => {
          await file.write(bytes);
        },
        close: () => file.close(),
      };
    },
    async dispose() {
      await rm(folder, { recursive: true });
      await rm(elsewhere, { recursive: true });
    },
  };
});

sourceContract('manifest', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-manifest-'));
  const list = join(folder, 'films.csv');
  await writeFile(list, 'path\n');
  return {
    plugin: manifest,
    with: { path: list },
    refused: [
      {},
      { path: join(folder, 'missing.csv') },
      { path: list, columns: ['size'] },
      { path: list, attempts: 0 },
    ],
    finite: true,
    async put(name, bytes) {
      await writeFile(join(folder, name), bytes);
      await appendFile(list, `"${name}"\n`);
    },
    dispose: () => rm(folder, { recursive: true }),
  };
});
