import { expect } from 'chai';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadCheckpoint, saveCheckpoint } from '../../src/training/checkpoint.js';
import { readTensorFile, writeTensorFile } from '../../src/training/tensor-file.js';

describe('tensor files and checkpoints', () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-tensors-'));
  });
  afterEach(() => rm(dir, { recursive: true }));

  const tensors = {
    kernel: { data: Float32Array.of(1, -2, 3.5, 4, 5, 6), dims: [2, 3] },
    films: { data: Uint8Array.of(1, 2, 3), dims: [3] },
    deep: { data: Uint16Array.of(1, 65535), dims: [2] },
    step: { data: Float32Array.of(7), dims: [] },
    labels: { data: Int32Array.of(-1, 2), dims: [2] },
  };

  it('are read as they were written', async () => {
    const path = join(dir, 'a.safetensors');
    await writeTensorFile(path, { tensors, metadata: { note: 'für immer' } });
    expect(await readTensorFile(path)).to.deep.equal({ tensors, metadata: { note: 'für immer' } });
    expect(await readdir(dir)).to.deep.equal(['a.safetensors']);
  });

  it('follow the safetensors layout: length, JSON header aligned to eight bytes, values', async () => {
    const path = join(dir, 'a.safetensors');
    await writeTensorFile(path, { tensors: { x: { data: Float32Array.of(1.5), dims: [1] } }, metadata: {} });
    const bytes = await readFile(path);
    const length = Number(bytes.readBigUInt64LE(0));
    expect(length % 8).to.equal(0);
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + length)) as unknown;
    expect(header).to.deep.equal({ __metadata__: {}, x: { dtype: 'F32', shape: [1], data_offsets: [0, 4] } });
    expect(bytes.readFloatLE(8 + length)).to.equal(1.5);
    expect(bytes.length).to.equal(8 + length + 4);
  });

  it('are refused when cut short, wherever the cut is', async () => {
    const path = join(dir, 'a.safetensors');
    await writeTensorFile(path, { tensors, metadata: {} });
    const whole = await readFile(path);
    for (const length of [4, 30, whole.length - 1]) {
      await writeFile(path, whole.subarray(0, length));
      const error = await readTensorFile(path).catch((e: unknown) => e);
      expect(error).to.be.instanceOf(Error);
      expect((error as Error).message).to.include('cut short');
    }
  });

  it('keep groups of tensors and the progress', async () => {
    const groups = { state: { 'dense/kernel': tensors.kernel }, best: { 'dense/kernel': tensors.kernel } };
    await saveCheckpoint(dir, { seed: 1 }, { groups, progress: { epoch: 3 } });
    expect(await loadCheckpoint(dir, { seed: 1 })).to.deep.equal({ groups, progress: { epoch: 3 } });
  });

  it('refuse to continue with other settings and name each', async () => {
    await saveCheckpoint(dir, { seed: 1, epochs: 20, width: 8 }, { groups: {}, progress: {} });
    const error = await loadCheckpoint(dir, { seed: 2, epochs: 30, width: 8 }).catch((e: unknown) => e);
    expect(error).to.include({ code: 'TRAINING_RESUME' });
    expect((error as Error).message).to.include('seed was 1, now 2; epochs was 20, now 30');
  });

  it('say so when there is nothing to resume', async () => {
    const error = await loadCheckpoint(dir, {}).catch((e: unknown) => e);
    expect(error).to.include({ code: 'TRAINING_RESUME' });
    expect((error as Error).message).to.include('there is no checkpoint to resume');
  });
});
