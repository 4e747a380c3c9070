// Run by `rxray test example-source.test.ts`.
import { mkdtemp, open, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sourceContract } from 'rxray/testing';
import source from './example-source.ts';

// What every source must do: offer what is there and what comes later, and never half a file.
sourceContract('example-source', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'example-source-'));
  return {
    plugin: source,
    with: { path: folder, everyMs: 50, settleMs: 300 },
    refused: [{}, { path: folder, everyMs: 0 }],
    async put(name, bytes) {
      await writeFile(join(tmpdir(), `part-${process.pid}`), bytes);
      await rename(join(tmpdir(), `part-${process.pid}`), join(folder, name));
    },
    async begin(name) {
      const file = await open(join(folder, name), 'a');
      return {
        append: (bytes: Uint8Array) => file.appendFile(bytes),
        close: () => file.close(),
      };
    },
    dispose: () => rm(folder, { recursive: true }),
  };
});
