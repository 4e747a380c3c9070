import { constants } from 'node:fs';
import {
  access,
  copyFile,
  link,
  mkdir,
  mkdtemp,
  open,
  readFile,
  readdir,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import { dirname, join, parse, resolve } from 'node:path';
import type { z } from 'zod';
import { RxrayError, messageOf } from '../core/errors.js';
import { isCode, syncFolder } from '../core/files.js';
import { bundleSchema, portableSteps, sha256, type Bundle, type StoredFile } from '../models/bundle.js';

/** Begins the name of the folder in which a bundle is put together. */
const ASIDE = '.rxray-part-';

/** What is needed to tell which files of a folder belong to the bundle in it, also to one of another version. */
const ownedSchema = bundleSchema.pick({ files: true, card: true }).loose();
type Owned = z.output<typeof ownedSchema>;

/**
 * Writes a bundle into `dir`, or replaces the bundle that is there. `files` maps roles to bytes, or to the path of a file
 * whose bytes it shares (a hard link, or a copy where the disk has none); each becomes `<role>.onnx`. `card` becomes `README.md`.
 *
 * Everything is written aside first; renaming `bundle.json` is the one step that makes the new bundle count, so that
 * a reader, or a crash, finds the old bundle or the new one. Only files that the old `bundle.json` names, and that are
 * still what it says, are removed afterwards; any other file in the folder stays as it is.
 *
 * Throws `BUNDLE_PLACE` as {@link requireBundlePlace} does.
 */
export async function writeBundle(
  dir: string,
  bundle: Omit<Bundle, 'files' | 'card'>,
  files: Readonly<Record<string, Uint8Array | string>>,
  card: string,
): Promise<Bundle> {
  await requireBundlePlace(dir);
  await mkdir(dir, { recursive: true });
  const earlier = await readOwned(dir);
  const aside = await mkdtemp(join(dir, ASIDE));
  try {
    const put = async (name: string, given: Uint8Array | string): Promise<StoredFile> => {
      const hash = sha256(typeof given === 'string' ? await readFile(given) : given);
      const path = await freeName(dir, name, hash);
      if (typeof given === 'string') await share(given, join(aside, path));
      else await writeSynced(join(aside, path), given);
      return { path, sha256: hash };
    };
    const preprocessing = portableSteps(bundle.preprocessing, dir);
    const whole: Bundle = { ...bundle, preprocessing, files: {} };
    for (const [role, bytes] of Object.entries(files)) whole.files[role] = await put(`${role}.onnx`, bytes);
    whole.card = { path: 'README.md', sha256: sha256(card) };
    await writeSynced(join(aside, 'README.md'), card);
    const json = `${JSON.stringify(bundleSchema.parse(whole), null, 2)}\n`;
    await writeSynced(join(aside, 'bundle.json'), json);

    for (const { path } of Object.values(whole.files)) await rename(join(aside, path), join(dir, path));
    await keepEditedCard(dir, earlier);
    await rename(join(aside, 'README.md'), join(dir, 'README.md'));
    await syncFolder(dir);
    await rename(join(aside, 'bundle.json'), join(dir, 'bundle.json'));
    await syncFolder(dir);
    const kept = new Set(Object.values(whole.files).map(({ path }) => path));
    for (const file of Object.values(earlier?.files ?? {})) {
      if (!kept.has(file.path) && (await isUnchanged(dir, file))) await rm(join(dir, file.path));
    }
    return whole;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/**
 * Throws `BUNDLE_PLACE` unless a bundle may be written to `dir`: a folder that does not exist yet, is
 * empty, or holds a bundle. To be asked before a training, which may take hours.
 */
export async function requireBundlePlace(dir: string): Promise<void> {
  const refuse = (why: string, cause?: unknown): never => {
    throw refused(dir, why, cause);
  };
  const names = await readdir(dir).catch((cause: unknown) => {
    if (isCode(cause, 'ENOENT')) return undefined;
    return refuse(isCode(cause, 'ENOTDIR') ? 'it is not a folder' : messageOf(cause), cause);
  });
  const place = names === undefined ? await existingAbove(dir) : dir;
  await access(place, constants.W_OK | constants.X_OK).catch((cause: unknown) =>
    refuse(`${place} is not writable`, cause),
  );
  const others = (names ?? []).filter((name) => !name.startsWith(ASIDE));
  if (others.length === 0 || (await readOwned(dir)) !== undefined) return;
  refuse(
    `it is not empty (${others.slice(0, 3).join(', ')}${others.length > 3 ? ', …' : ''}) and holds no bundle of rxray. ` +
      'Name a new folder, an empty one, or one with an earlier bundle',
  );
}

/** What `bundle.json` in `dir` says of the files that belong to it; undefined where there is no bundle. */
async function readOwned(dir: string): Promise<Owned | undefined> {
  try {
    return ownedSchema.parse(JSON.parse(await readFile(join(dir, 'bundle.json'), 'utf8')));
  } catch {
    return undefined;
  }
}

/** `model.onnx`, or `model-<hash>.onnx` where a file with other bytes has that name. */
async function freeName(dir: string, name: string, hash: string): Promise<string> {
  const { name: stem, ext } = parse(name);
  for (const candidate of [name, `${stem}-${hash.slice(0, 12)}${ext}`]) {
    const found = await readFile(join(dir, candidate)).catch((cause: unknown) => {
      if (isCode(cause, 'ENOENT')) return undefined;
      throw cause;
    });
    if (found === undefined || sha256(found) === hash) return candidate;
  }
  throw refused(dir, `${name} is taken by another file`);
}

/** A README.md that was edited, or that rxray did not write, is kept under another name. */
async function keepEditedCard(dir: string, earlier: Owned | undefined): Promise<void> {
  const path = join(dir, 'README.md');
  const found = await readFile(path).catch(() => undefined);
  if (found === undefined || sha256(found) === earlier?.card?.sha256) return;
  await rename(path, join(dir, `README-${sha256(found).slice(0, 12)}.md`));
}

async function isUnchanged(dir: string, file: StoredFile): Promise<boolean> {
  const found = await readFile(join(dir, file.path)).catch(() => undefined);
  return found !== undefined && sha256(found) === file.sha256;
}

async function share(from: string, to: string): Promise<void> {
  // Another disk, or one without links.
  await link(from, to).catch(() => copyFile(from, to, constants.COPYFILE_EXCL));
}

async function writeSynced(path: string, bytes: Uint8Array | string): Promise<void> {
  const handle = await open(path, 'wx');
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The nearest folder above `dir` that exists. */
async function existingAbove(dir: string): Promise<string> {
  const above = dirname(resolve(dir));
  const found = await stat(above).catch(() => undefined);
  return found === undefined ? existingAbove(above) : above;
}

function refused(dir: string, why: string, cause?: unknown): RxrayError {
  return new RxrayError('BUNDLE_PLACE', `cannot write a bundle to ${dir}: ${why}`, { cause });
}
