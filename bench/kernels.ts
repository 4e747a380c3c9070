/**
 * The kernels of the hot path beside native OpenCV's, in one thread, by turns:
 *
 *     npm run bench:kernels                           a minute
 *     npm run bench:kernels -- --json figures.json    [{ work, ours, peer, ratio }] in milliseconds of CPU
 *     npm run bench:kernels -- --venv FOLDER          where Python's OpenCV is (or RXRAY_PEER_VENV; default .rxray/peer/venv)
 *
 * `npm run bench:peer` installs OpenCV there. The ratio is ours ÷ OpenCV's, the median of five rounds.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import sharp from 'sharp';

import { clahe, decode, phantomFilm, resize } from './built.js';
import { vectorWidth } from './vector-width.js';

const ROUNDS = 5;
/** Pixels that one kernel takes in a round. */
const PIXELS = 8e6;
const FILMS = [
  { width: 224, height: 224, bits: 8, format: 'jpeg' },
  { width: 224, height: 224, bits: 8, format: 'png' },
  { width: 1024, height: 1024, bits: 8, format: 'jpeg' },
  { width: 1024, height: 1024, bits: 16, format: 'png' },
  { width: 2500, height: 2048, bits: 8, format: 'jpeg' },
] as const;
const KERNELS = ['decode', 'clahe', 'area'] as const;
type Kernel = (typeof KERNELS)[number];

const { values: flags } = parseArgs({
  options: {
    json: { type: 'string' },
    venv: {
      type: 'string',
      default: process.env['RXRAY_PEER_VENV'] ?? join(import.meta.dirname, '../.rxray/peer/venv'),
    },
  },
});
const folder = await mkdtemp(join(tmpdir(), 'rxray-bench-kernels-'));
const python = spawn(join(flags.venv, 'bin/python'), [join(import.meta.dirname, 'peers/kernels.py')], {
  stdio: ['pipe', 'pipe', 'inherit'],
});
const answers = createInterface(python.stdout)[Symbol.asyncIterator]();

async function answer(): Promise<unknown> {
  const line = await answers.next();
  if (line.done === true) throw new Error(`there is no Python with OpenCV in ${flags.venv}`);
  return JSON.parse(line.value) as unknown;
}

async function filmOf({ width, height, bits, format }: (typeof FILMS)[number]): Promise<string> {
  const size = Math.max(width, height);
  const { image } = phantomFilm({ seed: 1, size, opacities: 1, bits });
  const pixels = sharp(image.data, { raw: { width: size, height: size, channels: 1 } })
    .toColourspace(bits === 8 ? 'b-w' : 'grey16')
    .extract({ left: 0, top: 0, width, height });
  const path = join(folder, `film-${width}.${format}`);
  await (format === 'jpeg' ? pixels.jpeg({ quality: 90 }) : pixels.png()).toFile(path);
  return path;
}

/** Milliseconds of CPU a call. */
async function ours(path: string, kernel: Kernel, times: number): Promise<number> {
  const options = { color: 'grey', maxPixels: 1e8, maxBytes: 5e8 } as const;
  const read = async () => (await decode(readFileSync(path), options)).image;
  const image = await read();
  const work = {
    decode: read,
    clahe: () => clahe(image, 2, 8),
    area: () => resize(image, 128, 128, 'area'),
  }[kernel];
  for (let i = 0; i < 3; i++) await work();
  const start = process.cpuUsage();
  for (let i = 0; i < times; i++) await work();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000 / times;
}

async function theirs(file: string, kernel: Kernel, times: number): Promise<number> {
  python.stdin.write(`${JSON.stringify({ file, kernel, times })}\n`);
  return (await answer()) as number;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

try {
  const version = String(await answer());
  console.log(
    `${cpus()[0]?.model ?? 'unknown CPU'} (${vectorWidth()}), Node ${process.version}, OpenCV ${version}, ` +
      `load ${loadavg()[0]?.toFixed(1) ?? '?'}`,
  );
  const table = new Table({
    head: ['ms of CPU', 'rxray', 'OpenCV', 'ratio'],
    colAligns: ['left', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  const figures: { work: string; ours: number; peer: number; ratio: number }[] = [];
  for (const film of FILMS) {
    const path = await filmOf(film);
    const times = Math.ceil(PIXELS / (film.width * film.height));
    for (const kernel of KERNELS) {
      const rounds: (readonly [number, number])[] = [];
      for (let i = 0; i < ROUNDS; i++) {
        rounds.push([await ours(path, kernel, times), await theirs(path, kernel, times)]);
      }
      const work = `${kernel}, ${film.width}×${film.height} ${film.format}, ${film.bits} bit`;
      const figure = {
        work,
        ours: median(rounds.map(([mine]) => mine)),
        peer: median(rounds.map(([, other]) => other)),
        ratio: median(rounds.map(([mine, other]) => mine / other)),
      };
      figures.push(figure);
      table.push([work, figure.ours.toFixed(2), figure.peer.toFixed(2), figure.ratio.toFixed(2)]);
    }
  }
  console.log(table.toString());
  if (flags.json !== undefined) await writeFile(flags.json, `${JSON.stringify(figures, null, 2)}\n`);
} finally {
  python.kill();
  await rm(folder, { recursive: true, force: true });
}
