import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import sharp from 'sharp';
import type { Image } from '../core/frame.js';
import { Engine } from '../engine/engine.js';
import { BundleError } from '../models/bundle.js';
import { sampleFilms, SAMPLE_SIDE, type SampleFilm } from '../training/samples.js';
import { EXIT } from './exit.js';
import { upTo } from './numbers.js';

const EXAMPLES = `
Examples:
  $ rxray sample models/chest-anogan                       a contact sheet: samples.png
  $ rxray sample models/chest-anogan -n 100 --out films    one file per film
  $ rxray sample models/chest-anogan --seed 7 --opacities  every third film has phantom opacities

The films are synthetic: they show no patient. Not a medical device.`;

interface SampleFlags {
  readonly count: number;
  readonly seed: number;
  readonly out?: string;
  readonly sheet: string;
  readonly opacities?: true;
  readonly json?: true;
}

/** All films are in memory until they are written; a film takes 80 kB. */
const MAX_FILMS = 10_000;
/** Pixels between the films of a contact sheet. */
const GAP = 8;

export function sample(program: Command): void {
  program
    .command('sample')
    .argument('<bundle>', "the bundle's folder")
    .option('-n, --count <n>', `how many films, up to ${MAX_FILMS}`, upTo(MAX_FILMS), 16)
    .option('--seed <n>', 'the same seed gives the same films', upTo(2 ** 32), 1)
    .option('--out <dir>', 'write one PNG per film to this folder, instead of a contact sheet')
    .option('--sheet <file>', 'file for the contact sheet', 'samples.png')
    .option('--opacities', 'put phantom opacities into every third film')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (bundle: string, flags: SampleFlags) => {
      process.exitCode = await writeSamples(bundle, flags);
    });
}

async function writeSamples(bundle: string, flags: SampleFlags): Promise<number> {
  const { count, seed, out, sheet, opacities = false, json } = flags;
  const engine = new Engine();
  try {
    const films = await sampleFilms(engine, resolve(bundle), count, seed, { opacities });
    const files = out === undefined ? [await writeSheet(films, sheet)] : await writeFilms(films, out);
    if (json) console.log(JSON.stringify({ bundle, seed, films: count, files }));
    else console.log(out === undefined ? `${sheet}: ${count} films` : `${count} films in ${out}`);
    return EXIT.fine;
  } catch (error) {
    if (!(error instanceof BundleError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return EXIT.usage;
  } finally {
    await engine.dispose();
  }
}

/** One PNG per film; its name tells whether it has an opacity. */
async function writeFilms(films: readonly SampleFilm[], dir: string): Promise<string[]> {
  await mkdir(dir, { recursive: true });
  const digits = String(films.length).length;
  return Promise.all(
    films.map(async ({ image, opacity }, i) => {
      const name = `sample-${String(i + 1).padStart(digits, '0')}`;
      const file = join(dir, `${name}${opacity ? '-opacity' : ''}.png`);
      await writeFile(file, await greyPng(image));
      return file;
    }),
  );
}

/** Films side by side, in about as many rows as columns. */
async function writeSheet(films: readonly SampleFilm[], file: string): Promise<string> {
  const columns = Math.ceil(Math.sqrt(films.length));
  const rows = Math.ceil(films.length / columns);
  const step = SAMPLE_SIDE + GAP;
  const tiles = await Promise.all(
    films.map(async ({ image }, i) => ({
      input: await greyPng(image),
      left: GAP + (i % columns) * step,
      top: GAP + Math.floor(i / columns) * step,
    })),
  );
  await mkdir(dirname(resolve(file)), { recursive: true });
  await sharp({
    create: { width: GAP + columns * step, height: GAP + rows * step, channels: 3, background: '#111' },
  })
    .composite(tiles)
    .png()
    .toFile(file);
  return file;
}

function greyPng({ data, width, height, channels }: Image): Promise<Buffer> {
  return sharp(data, { raw: { width, height, channels } }).toColourspace('b-w').png().toBuffer();
}
