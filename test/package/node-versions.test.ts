import { expect } from 'chai';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const BUNDLE = fileURLToPath(new URL('../../models/chest-resnet', import.meta.url));
/** Programs, in the form of PATH; `.ci/run` installs other versions than the one that runs the tests. */
const OTHERS = (process.env['RXRAY_NODES'] ?? '').split(delimiter).filter(Boolean);

function hasTensorflow(): boolean {
  try {
    createRequire(import.meta.url).resolve('@tensorflow/tfjs-node');
    return true;
  } catch {
    return false;
  }
}

/** Their `Math.exp` may differ in the last bit. */
const rounded = (_key: string, value: unknown): unknown =>
  typeof value === 'number' ? Number(value.toPrecision(12)) : value;

/** The built program under other versions of Node.js: the same films, the same results, in both runtimes. */
describe('other versions of Node.js', function () {
  this.timeout(180_000);
  let folder: string;
  let expected: unknown[];

  before(async function () {
    if (OTHERS.length === 0) {
      console.log('      needs other versions of Node.js: RXRAY_NODES=/path/to/node:…');
      this.skip();
    }
    folder = await mkdtemp(join(tmpdir(), 'rxray-nodes-'));
    await run(process.execPath, [MAIN, 'phantoms', join(folder, 'films'), '-n', '3', '--size', '160']);
    expected = await resultsOf(process.execPath, 'own');
    expect(expected).to.have.length(3);
  });
  after(() => (folder as string | undefined) !== undefined && rm(folder, { recursive: true }));

  /** What the stages say of each film, in the order of their names. */
  async function resultsOf(node: string, name: string): Promise<unknown[]> {
    const runtimes = ['onnx', ...(hasTensorflow() ? ['tensorflow'] : [])];
    const stages = [
      { use: 'decode' },
      { use: 'clahe' },
      { use: 'resize', with: { width: 128, height: 128 } },
      ...runtimes.map((runtime) => ({
        use: 'resnet',
        id: runtime,
        with: { bundle: BUNDLE, device: 'cpu', runtime },
        // A single film's last digits are others than in a batch.
        batch: { size: 1 },
      })),
    ];
    const pipeline = {
      version: 1,
      state: `./state-${name}`,
      sources: [{ use: 'watch', with: { path: './films' } }],
      stages,
      sinks: [{ use: 'jsonl', with: { path: `./${name}.jsonl` } }],
    };
    const file = join(folder, `${name}.yaml`);
    await writeFile(file, JSON.stringify(pipeline));
    await run(node, [MAIN, 'run', file, '--once']);
    const lines = (await readFile(join(folder, `${name}.jsonl`), 'utf8')).trim().split('\n');
    const films = lines.map((line) => JSON.parse(line, rounded) as { file: string; results: unknown });
    return films
      .toSorted((a, b) => a.file.localeCompare(b.file))
      .map(({ file, results }) => ({ file, results }));
  }

  for (const node of OTHERS) {
    it(`gives the same results: ${node}`, async () => {
      const { stdout: version } = await run(node, ['--version']);
      expect(await resultsOf(node, version.trim())).to.deep.equal(expected);
    });
  }
});
