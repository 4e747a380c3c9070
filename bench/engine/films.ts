import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Image } from '../../src/core/frame.js';
import type { HostTensor } from '../../src/engine/index.js';
import { clahe, resize } from '../../src/imaging/kernels.js';
import { phantomFilm } from '../../src/imaging/phantom.js';
import type { Bundle } from '../../src/models/bundle.js';
import { inputTensor } from '../../src/models/input-tensor.js';
import { decode } from '../../src/plugins/decode.js';

/** Films as a network sees them: `count` of a folder, evenly spread over its files, or phantoms. */
export async function filmsFor(
  { width, height, ...input }: Bundle['input'],
  count: number,
  folder: string | undefined,
): Promise<HostTensor> {
  const films = folder === undefined ? phantoms(count) : await some(folder, count);
  const small = films.map((film) => resize(clahe(film, 2, 8), width, height, 'area'));
  return inputTensor(small, { width, height, ...input });
}

function phantoms(count: number): Image[] {
  return Array.from(
    { length: count },
    (_, seed) => phantomFilm({ seed, size: 512, opacities: seed % 2 }).image,
  );
}

async function some(folder: string, count: number): Promise<Image[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && /\.(png|jpe?g|tiff?|bmp|dcm)$/i.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  if (files.length < count)
    throw new Error(`${folder}: expected ${count} films or more, found ${files.length}`);
  const settings = { color: 'grey', maxPixels: 1e8, maxBytes: 1e9 } as const;
  return Promise.all(
    Array.from({ length: count }, async (_, at) => {
      const file = files[Math.floor((at * files.length) / count)] ?? '';
      return (await decode(await readFile(file), settings)).image;
    }),
  );
}
