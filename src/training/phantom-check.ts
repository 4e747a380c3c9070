import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { phantomFilm } from '../imaging/phantom.js';
import type { Bundle, PreprocessingStep } from '../models/bundle.js';
import { imagesOf, prepareFilms, resolveChain } from './preprocess.js';
import type { Recipe } from './recipe.js';

/** The phantom that every bundle is checked with: a PNG of 512 × 512, 8 bit. */
const PHANTOM = { seed: 1, size: 512, opacities: 1 } as const;

/**
 * The SHA-256 of the network's input (little-endian float32) for the phantom film: with it, other machines and later
 * versions can check that preprocessing is unchanged.
 */
export async function phantomCheck(
  { registry, baseDir, log, rxray }: Pick<Recipe, 'registry' | 'baseDir' | 'log' | 'rxray'>,
  chain: readonly PreprocessingStep[],
  input: Bundle['input'],
): Promise<NonNullable<Bundle['check']>> {
  const dir = await mkdtemp(join(tmpdir(), 'rxray-phantom-'));
  try {
    const path = await savePhantom(dir);
    const sha256 = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
    const film = { path, name: 'phantom.png', class: 'phantom', patient: 'phantom', sha256 };
    const steps = await resolveChain(chain, registry, baseDir);
    const { prepared } = await prepareFilms([film], steps, {
      cacheDir: dir,
      baseDir,
      log,
      rxray,
      threads: 1,
    });
    const tensor = imagesOf(prepared, Uint32Array.of(0), input).data as Float32Array;
    return {
      phantom: PHANTOM,
      tensor: createHash('sha256').update(new Uint8Array(tensor.buffer)).digest('hex'),
    };
  } finally {
    await rm(dir, { recursive: true });
  }
}

/** Saves it in `dir`; returns its path. */
export async function savePhantom(dir: string): Promise<string> {
  const { data, width, height } = phantomFilm(PHANTOM).image;
  const path = join(dir, 'phantom.png');
  await sharp(data as Uint8Array, { raw: { width, height, channels: 1 } })
    .toColourspace('b-w')
    .png()
    .toFile(path);
  return path;
}
