// The temporary files of a test run are in one folder, also those of its child processes. The first process removes it
// at its end, with what tests have left there and what a killed process could not remove.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';

if (isMainThread && process.env.RXRAY_TEST_FOLDER === undefined) {
  const folder = mkdtempSync(join(tmpdir(), 'rxray-tests-'));
  // Tests read it as another user.
  chmodSync(folder, 0o711);
  Object.assign(process.env, { RXRAY_TEST_FOLDER: folder, TMPDIR: folder });
  process.once('exit', () => {
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    } catch {
      // A process of a test still writes there: no reason to fail.
    }
  });
  for (const [signal, code] of [
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ])
    process.once(signal, () => process.exit(code));
}
