import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { phantomFilm } from '../../src/imaging/phantom.js';
import type { Section } from './row.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const MODELS = fileURLToPath(new URL('../../models/', import.meta.url));
const SIDE = 224;
/** Different films; the rest are copies of them. */
const PHANTOMS = 50;
/** The device should wait for decoding, not decoding for the device. */
const MOST_BUSY = 50;

/** Decode, CLAHE, resize, ResNet and CSV over a folder of films, as `rxray run --once` does it. */
export const wholeGraph: Section = async function* ({ device, films }) {
  const folder = await mkdtemp(join(tmpdir(), 'rxray-gpu-'));
  try {
    await makeFilms(join(folder, 'films'), films);
    for (const on of device === 'cpu' ? ['cpu'] : [device, 'cpu']) {
      const file = join(folder, `${on}.yaml`);
      await writeFile(file, graphOn(on));
      const sampler = new UtilisationSampler();
      const start = performance.now();
      const child = spawn(process.execPath, [CLI, 'run', file, '--once'], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let errors = '';
      child.stderr.on('data', (chunk: Buffer) => (errors += String(chunk)));
      const [code] = (await once(child, 'exit')) as [number | null];
      const seconds = (performance.now() - start) / 1000;
      const busy = await sampler.stop();
      const rows =
        (await readFile(join(folder, `${on}.csv`), 'utf8').catch(() => '')).trim().split('\n').length - 1;
      yield {
        what: `${String(films)} films of ${String(SIDE)}² on ${on}, films/s with the start of the process`,
        ours: films / seconds,
        ok: code === 0 && rows === films,
        detail:
          code === 0 && rows === films
            ? `${seconds.toFixed(1)} s`
            : `code ${String(code)}, ${String(rows)} rows: ${errors.slice(-300)}`,
      };
      if (on === 'cpu' || busy === undefined) continue;
      yield {
        what: `device busy, %`,
        ours: busy,
        goal: `< ${String(MOST_BUSY)}`,
        ok: busy < MOST_BUSY,
        detail: 'mean of nvidia-smi utilization.gpu, every 200 ms',
      };
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

function graphOn(device: string): string {
  return `version: 1
name: gpu-${device}
state: ./state-${device}
sources:
  - use: watch
    with: { path: ./films }
stages:
  - use: decode
  - use: clahe
  - use: resize
    with: { width: 128, height: 128 }
  - use: resnet
    with: { bundle: ${JSON.stringify(`${MODELS}chest-resnet`)}, device: ${device} }
    batch: { size: 64, waitMs: 50 }
sinks:
  - use: csv
    with: { path: ./${device}.csv }
`;
}

async function makeFilms(folder: string, count: number): Promise<void> {
  await mkdir(folder);
  const unique = Math.min(PHANTOMS, count);
  for (let seed = 0; seed < unique; seed++) {
    const { width, height, channels, data } = phantomFilm({ seed, size: SIDE, opacities: seed % 3 }).image;
    await sharp(data as Uint8Array, { raw: { width, height, channels } })
      .toColourspace('b-w')
      .jpeg({ quality: 90 })
      .toFile(join(folder, `film-${String(seed)}.jpg`));
  }
  for (let i = unique; i < count; i++) {
    await copyFile(join(folder, `film-${String(i % unique)}.jpg`), join(folder, `film-${String(i)}.jpg`));
  }
}

/** How busy the GPU is, by nvidia-smi, from construction to `stop`. */
class UtilisationSampler {
  readonly #values: number[] = [];
  readonly #process = spawn(
    'nvidia-smi',
    ['--query-gpu=utilization.gpu', '--format=csv,noheader,nounits', '-lms', '200'],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  readonly #gone = once(this.#process, 'close').catch(() => undefined);

  constructor() {
    createInterface({ input: this.#process.stdout }).on('line', (line) => this.#values.push(Number(line)));
  }

  /** The mean in per cent from the first work of the GPU to the last; undefined where there is no GPU. */
  async stop(): Promise<number | undefined> {
    this.#process.kill();
    await this.#gone;
    const first = this.#values.findIndex((value) => value > 0);
    if (first < 0) return undefined;
    const working = this.#values.slice(first, this.#values.findLastIndex((value) => value > 0) + 1);
    return working.reduce((a, b) => a + b, 0) / working.length;
  }
}
