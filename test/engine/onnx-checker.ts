import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PYTHON = '/usr/bin/python3';
const CHECK =
  'import onnx, sys\nfor path in sys.argv[1:]: onnx.checker.check_model(onnx.load(path), full_check=True)';

/** Asserts that files, by name, pass onnx.checker with shape inference; skips the test without python3-onnx. */
export async function checkOnnx(
  test: Mocha.Context,
  files: Readonly<Record<string, Uint8Array>>,
): Promise<void> {
  if (spawnSync(PYTHON, ['-c', 'import onnx']).status !== 0) {
    console.log('      skipped: needs python3-onnx');
    test.skip();
  }
  const folder = await mkdtemp(join(tmpdir(), 'rxray-onnx-'));
  try {
    const paths: string[] = [];
    for (const [name, bytes] of Object.entries(files)) {
      const path = join(folder, `${name}.onnx`);
      await writeFile(path, bytes);
      paths.push(path);
    }
    const { status, stderr } = spawnSync(PYTHON, ['-c', CHECK, ...paths], { encoding: 'utf8' });
    expect(stderr.split('\n').slice(-4).join('\n')).to.equal('');
    expect(status).to.equal(0);
  } finally {
    await rm(folder, { recursive: true });
  }
}
