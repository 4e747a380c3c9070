import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What `nvidia-smi` says of the first GPU, one value for each of the `fields`; nothing where there is none. */
export async function nvidiaSmi(...fields: string[]): Promise<string[] | undefined> {
  try {
    const { stdout } = await run('nvidia-smi', [
      `--query-gpu=${fields.join(',')}`,
      '--format=csv,noheader,nounits',
    ]);
    return stdout
      .split('\n')[0]
      ?.split(',')
      .map((value) => value.trim());
  } catch {
    return undefined;
  }
}

/** Name, memory and driver of the GPU. */
export async function gpuDescription(): Promise<string> {
  const found = await nvidiaSmi('name', 'memory.total', 'driver_version');
  return found === undefined
    ? 'no NVIDIA GPU'
    : `${found[0] ?? ''}, ${found[1] ?? ''} MiB, driver ${found[2] ?? ''}`;
}
