import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import type { Contender, Missing, Setting } from './contender.js';

interface Ready {
  readonly mode: string;
  readonly modes: Readonly<Record<string, number>>;
  readonly failed: Readonly<Record<string, string>>;
  readonly parameters: number;
  readonly versions: Readonly<Record<string, string | number>>;
}

const NAME = 'PyTorch';

/**
 * PyTorch in a process of its own, which stays for the whole work (see peers/pytorch.py).
 *
 * @param work A function of peers/works.py.
 * @param options Its arguments.
 */
export async function pytorch(
  work: string,
  options: Readonly<Record<string, string | number | boolean>>,
  { python, device, threads }: Setting,
): Promise<(Contender & { exportOnnx(path: string): Promise<void> }) | Missing> {
  const script = fileURLToPath(new URL('peers/pytorch.py', import.meta.url));
  const limits = { OMP_NUM_THREADS: String(threads), OPENBLAS_NUM_THREADS: String(threads) };
  const process_ = spawn(python, ['-B', '-W', 'ignore', script], {
    env: { ...process.env, ...limits },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const lines = createInterface({ input: process_.stdout })[Symbol.asyncIterator]();
  const gone = once(process_, 'exit').catch((error: unknown) => error);
  const ask = async (request: object): Promise<unknown> => {
    process_.stdin.write(`${JSON.stringify(request)}\n`);
    const line = await lines.next();
    if (line.done === true) throw new Error(`${python} with PyTorch could not be started, or ended`);
    const reply = JSON.parse(line.value) as { error?: string };
    if (reply.error !== undefined) throw new Error(reply.error);
    return reply;
  };
  // A broken pipe shows as the end of the replies.
  process_.stdin.on('error', () => undefined);
  let ready: Ready;
  try {
    ready = (await ask({ work, options, threads, device: device === 'cpu' ? 'cpu' : 'cuda' })) as Ready;
  } catch (error) {
    return { name: NAME, missing: error instanceof Error ? error.message : String(error) };
  }
  const others = Object.entries(ready.modes).map(([mode, ms]) => `${mode} ${ms.toFixed(1)} ms`);
  const failures = Object.entries(ready.failed).map(([mode, why]) => `${mode} failed (${why})`);
  return {
    name: NAME,
    mode: ready.mode,
    details: { ...ready.versions, 'modes tried': [...others, ...failures].join(', ') },
    parameters: ready.parameters,
    run: async (times) => ((await ask({ run: times })) as { ms: number[] }).ms,
    async exportOnnx(path) {
      await ask({ export: path });
    },
    async dispose() {
      process_.stdin.end();
      await gone;
    },
  };
}
