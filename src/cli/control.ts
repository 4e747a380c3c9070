import pc from 'picocolors';
import { stateDirOf } from '../core/config/state-dir.js';
import { exitCodeOf, messageOf, RxrayError } from '../core/errors.js';
import { ControlClient } from '../control/client.js';
import { EXIT } from './exit.js';

/** Calls the process that runs this pipeline file; returns the exit code. */
export async function withRunning(
  file: string,
  act: (client: ControlClient) => Promise<void>,
): Promise<number> {
  try {
    await act(new ControlClient(await stateDirOf(file)));
    return EXIT.fine;
  } catch (error) {
    const code = error instanceof RxrayError ? ` (${error.code})` : '';
    process.stderr.write(`${pc.red('✗')} ${messageOf(error)}${code}\n`);
    return exitCodeOf(error);
  }
}
