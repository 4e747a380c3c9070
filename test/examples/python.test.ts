import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { readBundle } from '../../src/models/bundle.js';
import { savePhantom } from '../../src/training/phantom-check.js';

const python = (code: string, ...args: string[]) =>
  spawnSync('/usr/bin/python3', ['-c', code, ...args], { cwd: 'examples/python', encoding: 'utf8' });

describe('examples/python', () => {
  for (const name of ['chest-resnet', 'chest-lungs']) {
    it(`makes the tensor of ${name} bit by bit`, async function () {
      if (python('import cv2, numpy').status !== 0) {
        console.log('      needs python3-opencv');
        this.skip();
      }
      const folder = await mkdtemp(join(tmpdir(), 'rxray-python-'));
      const phantom = await savePhantom(folder);
      const { check } = await readBundle(`models/${name}`);
      const { stdout, stderr } = python(
        `import sys, hashlib
from rxray_bundle import load, tensor
print(hashlib.sha256(tensor(load('../../models/${name}'), sys.argv[1]).tobytes()).hexdigest())`,
        phantom,
      );
      await rm(folder, { recursive: true });
      expect(stdout.trim(), stderr).to.equal(check?.tensor);
    });
  }

  it('refuses a stage that it does not know, instead of making another tensor', function () {
    if (python('import cv2, numpy').status !== 0) this.skip();
    const { stderr } = python(
      `from rxray_bundle import tensor
tensor({"preprocessing": [{"use": "crop", "with": {}}]}, "film.png")`,
    );
    expect(stderr).to.contain('the stage crop with {} is not known here');
  });
});
