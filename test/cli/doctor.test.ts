import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { examine, type Check } from '../../src/cli/doctor.js';

describe('rxray doctor', () => {
  let folder: string;
  let checks: Check[];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rxray-doctor-'));
    checks = await examine(folder);
  });

  after(() => rm(folder, { recursive: true, force: true }));

  const found = (name: string): Check => checks.find((check) => check.name === name)!;

  it('reports the Node.js that runs it and the libraries with their versions', () => {
    expect(found('Node.js')).to.deep.equal({ name: 'Node.js', status: 'ok', found: process.version });
    expect(found('Inference').found).to.match(/^onnxruntime-node \d+\.\d+\.\d+$/);
    expect(found('Decoding').found).to.match(/^sharp \d+\.\d+\.\d+, libvips \d+\.\d+/);
    expect(found('CLAHE, resize').status).to.equal('ok');
  });

  it('finds the CPU as a device, and says what a missing GPU runtime needs', () => {
    expect(found('Device cpu').status).to.equal('ok');
    for (const device of ['Device cuda', 'Device webgpu']) {
      const { status, remedy } = found(device);
      expect(remedy === undefined, device).to.equal(status === 'ok');
    }
  });

  it('gives a remedy with everything that is not in order', () => {
    for (const { name, status, remedy } of checks) {
      if (status !== 'ok') expect(remedy, name).to.be.a('string');
    }
  });

  it('leaves nothing behind in the folder that it tried to write', async () => {
    await rm(folder, { recursive: true });
    const again = await examine(join(folder, 'not', 'there', 'yet'));
    expect(again.find(({ name }) => name === 'State folder')?.status).to.equal('ok');
  });
});
