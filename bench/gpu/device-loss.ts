import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import * as tf from '@tensorflow/tfjs-core';
import { Engine, traceToOnnx } from '../../src/engine/index.js';
import type { Section } from './row.js';

/** The outer product of this many numbers, 10 GB, no longer fits into a device of which another program holds nearly all. */
const SIDE = 50_000;

/** PyTorch takes the memory of the device but for 2 GB, says so, and keeps it until its input ends. */
const HOLD = `
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(free - 2 * 2**30, dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
`;

/** A device that fails while it works, because another program has taken its memory: a message, and the CPU goes on. */
export const loseDevice: Section = async function* ({ device, quick, python }) {
  const messages: string[] = [];
  const log = {
    info: (message: string) => messages.push(message),
    warn: (message: string) => messages.push(message),
  };
  const engine = new Engine({ log });
  const small = quick || device === 'cpu';
  const side = small ? 500 : SIDE;
  const { bytes } = traceToOnnx(
    ({ column, row }) => ({ y: tf.max(tf.matMul(column as tf.Tensor2D, row as tf.Tensor2D)) }),
    { column: { shape: [side, 1] }, row: { shape: [1, side] } },
  );
  try {
    const session = await engine.load(bytes, { name: 'too large for the device', device });
    const other = small ? undefined : await holdMemory(python);
    const ramp = Float32Array.from({ length: side }, (_, i) => i / side);
    const feeds = { column: { data: ramp, dims: [side, 1] }, row: { data: ramp, dims: [1, side] } };
    const { y } = await session.run(feeds);
    const expected = ((side - 1) / side) ** 2;
    yield {
      what: 'a run that the device cannot do',
      ours: Math.abs(Number(y?.data[0]) - expected) < 1e-3 ? 'right result' : `wrong: ${String(y?.data[0])}`,
      ...(!small && { ok: messages.some((message) => message.includes('the CPU goes on')) }),
      detail: messages.join(' ').slice(0, 300),
    };
    const { y: next } = await session.run(feeds);
    yield { what: 'the next run', ours: next?.data[0] === y?.data[0] ? 'the same result' : 'another result' };
    other?.stdin.end();
  } finally {
    await engine.dispose();
  }
};

async function holdMemory(python: string): Promise<ChildProcessWithoutNullStreams> {
  const other = spawn(python, ['-c', HOLD]);
  await Promise.race([once(other.stdout, 'data'), once(other, 'exit')]);
  return other;
}
