import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { builtInRegistry } from '../../src/host/builtins.js';
import { readBundle, type PreprocessingStep } from '../../src/models/bundle.js';
import { runGraph } from '../../src/testing.js';
import { serve } from '../../src/training/evaluation/verify.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PYTHON = '/usr/bin/python3';

/** The same chain in OpenCV's own Python binding and numpy; writes one raw float32 tensor after another. */
const SCRIPT = `
import sys, json, cv2, numpy as np
sys.path.append('examples/python')
from rxray_bundle import equalize
steps, mean, std, out = json.loads(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
boxes = json.loads(sys.argv[5])
with open(out, 'wb') as file:
    for path, box in zip(sys.argv[6:], boxes):
        film = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        assert film.ndim == 2
        scale = 1 / 255 if film.dtype == np.uint8 else 1 / 65535
        for step in steps:
            use, options = step['use'], step['with']
            if use == 'clahe':
                tiles = options['tileGridSize']
                film = cv2.createCLAHE(clipLimit=options['clipLimit'], tileGridSize=(tiles, tiles)).apply(film)
            elif use == 'equalize':
                film = equalize(film)
            elif use == 'crop':
                assert options['border'] == 'replicate'
                side = max(film.shape)
                wide = cv2.copyMakeBorder(film, side, side, side, side, cv2.BORDER_REPLICATE)
                x, y = box['x'] + side, box['y'] + side
                film = wide[y:y + box['height'], x:x + box['width']]
            elif use == 'resize':
                assert options['fit'] == 'stretch' and options['interpolation'] == 'area'
                film = cv2.resize(film, (options['width'], options['height']), interpolation=cv2.INTER_AREA)
            else:
                assert use == 'unet' or use == 'decode' and options['color'] == 'grey'
        file.write(((film.astype(np.float64) * scale - mean) / std).astype(np.float32).tobytes())
`;

/** What each film is cut to by the chain; null by one that does not cut. */
async function boxesOf(chain: readonly PreprocessingStep[], paths: readonly string[]): Promise<unknown[]> {
  const graph = {
    version: 1,
    sources: [{ use: 'watch', with: { path: '.' } }],
    stages: chain,
    sinks: [{ use: 'console' }],
  };
  const films = await runGraph(
    JSON.stringify(graph),
    paths.map((path) => ({ path })),
    { baseDir: ROOT },
  );
  return films.map(({ frame }) => (frame?.results.crop as { box: unknown } | undefined)?.box ?? null);
}

describe('the tensors that a running graph feeds its models', function () {
  this.timeout(120_000);
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-served-'));
  });
  after(() => rm(dir, { recursive: true }));

  for (const model of ['chest-resnet', 'chest-anogan']) {
    it(`are those of cv2 and numpy, bit for bit: ${model}, films of 8 and 16 bit`, async function () {
      if (spawnSync(PYTHON, ['-c', 'import cv2']).status !== 0) {
        console.log('      skipped: needs python3-opencv');
        this.skip();
      }
      const bundle = await readBundle(join(ROOT, 'models', model));
      const { width, height, mean, std } = bundle.input;
      expect([width, mean.length, std.length]).to.deep.equal([height, 1, 1]);
      const films = ['film-8bit.png', 'film-16bit.png'].map((name) => {
        const path = join(ROOT, 'fixtures', name);
        return { path, name, class: '', split: 'test', patient: name, sha256: '' } as const;
      });
      const out = join(dir, `${model}.raw`);
      const paths = films.map(({ path }) => path);
      const args = [
        '-c',
        SCRIPT,
        JSON.stringify(bundle.preprocessing),
        String(mean[0]),
        String(std[0]),
        out,
        JSON.stringify(await boxesOf(bundle.preprocessing, paths)),
        ...paths,
      ];
      const { status, stderr } = spawnSync(PYTHON, args, { cwd: ROOT, encoding: 'utf8' });
      expect(status, stderr).to.equal(0);
      const all = await readFile(out);
      const bytes = width * height * 4;
      const expected = films.map((_, i) => all.subarray(i * bytes, (i + 1) * bytes).toString('base64'));

      const log = { debug: nothing, info: nothing, warn: nothing, error: nothing };
      const scratch = await mkdtemp(join(dir, 'run-'));
      const { tensors, scores } = await serve(
        join(ROOT, 'models', model),
        bundle,
        films,
        { device: 'cpu' },
        scratch,
        { registry: builtInRegistry(), log },
      );
      expect(scores.every((score) => score !== undefined)).to.equal(true);
      const seen = tensors.map((tensor) => Buffer.from(new Uint8Array(tensor.buffer)).toString('base64'));
      expect([...new Set(seen)].sort()).to.deep.equal([...expected].sort());
    });
  }
});

const nothing = (): void => undefined;
