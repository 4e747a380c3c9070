import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import sharp from 'sharp';
import { phantomFilm } from '../imaging/phantom.js';
import { seededRandom } from '../models/random.js';
import { EXIT } from './exit.js';
import { positive, whole } from './numbers.js';

const EXAMPLES = `
Examples:
  $ rxray phantoms films                                 400 films with up to three opacities, and films/boxes.csv
  $ rxray phantoms films -n 50 --seed 9000 --size 512    others: each film has a seed of its own, from --seed on

The films are synthetic: they show no patient. Not a medical device.`;

interface Flags {
  readonly count: number;
  readonly size: number;
  readonly opacities: number;
  readonly seed: number;
  readonly json?: true;
}

export function phantoms(program: Command): void {
  program
    .command('phantoms')
    .argument('<dir>', 'the folder for the films and their boxes')
    .option('-n, --count <n>', 'how many films', positive, 400)
    .option('--size <pixels>', 'width and height of a film', positive, 256)
    .option('--opacities <n>', 'maximum number in a film; the number is drawn at random from 0', whole, 3)
    .option('--seed <n>', 'seed of the first film; increases by 1 for each film', whole, 1)
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (dir: string, flags: Flags) => {
      process.exitCode = await writePhantoms(dir, flags);
    });
}

/** Writes `phantom-<seed>.png` and `boxes.csv`, which `rxray train retinanet` and `rxray evaluate` take. */
async function writePhantoms(dir: string, { count, size, opacities, seed, json }: Flags): Promise<number> {
  await mkdir(dir, { recursive: true });
  const lines = ['path,label,x,y,w,h'];
  let boxes = 0;
  for (let film = seed; film < seed + count; film++) {
    const path = `phantom-${film}.png`;
    const many = Math.floor(seededRandom(film)() * (opacities + 1));
    const { image, opacities: found } = phantomFilm({ seed: film, size, opacities: many });
    await sharp(image.data, { raw: { width: size, height: size, channels: 1 } })
      .toColourspace('b-w')
      .png()
      .toFile(join(dir, path));
    for (const { box } of found) {
      lines.push([path, 'opacity', box.x, box.y, box.width, box.height].join(','));
    }
    if (found.length === 0) lines.push(`${path},,,,,`);
    boxes += found.length;
  }
  const table = join(dir, 'boxes.csv');
  await writeFile(table, `${lines.join('\n')}\n`);
  if (json) console.log(JSON.stringify({ films: count, boxes, table }));
  else console.log(`${count} films with ${boxes} opacities in ${dir}, and where they are in ${table}`);
  return EXIT.fine;
}
