import { createHash } from 'node:crypto';
import { open, readFile, readdir, realpath, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { messageOf, RxrayError } from '../core/errors.js';
import { existingPath } from '../core/files.js';
import { isClutter } from '../core/no-image.js';
import { readBoxes } from './boxes-manifest.js';
import type { Film, Split } from './film.js';
import { nearDuplicates, type Pair } from './near-duplicates.js';
import { named, type Preparation, type Unreadable } from './preprocess.js';
import { parseTable, readText, tidy, type TableRow } from './text-file.js';
import { drawSplit, leaksInto, straddling } from './splits.js';

export interface Dataset {
  readonly films: readonly Film[];
  /** Sorted: a model's label i is `classes[i]`. */
  readonly classes: readonly string[];
  /** Films by split and class. */
  readonly counts: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** SHA-256 over the sorted (path, SHA-256, class, split) of all films. */
  readonly fingerprint: string;
  /** Exact copies that were left out. */
  readonly duplicates: number;
  /** Films that are left out because their file cannot be read, or (with `thumbnails`) holds no image. */
  readonly unreadable: readonly Unreadable<{ readonly name: string; readonly split: Split | undefined }>[];
  /** Names of files and folders that are not films, in a folder of classes. */
  readonly leftOut: readonly string[];
  /** Notes on the data, one sentence each. */
  readonly findings: readonly string[];
  /** Number of patients; null if unknown for some films. */
  readonly patients: number | null;
}

export interface DatasetOptions {
  /** What the manifest's paths are relative to, as in Keras' `flow_from_dataframe`; else its own folder. */
  readonly directory?: string;
  /** The manifest's columns; `split`, `patient` and `duplicateOf` may be missing from the file. */
  readonly columns?: {
    readonly path?: string;
    readonly class?: string;
    readonly split?: string;
    readonly patient?: string;
    readonly duplicateOf?: string;
    readonly mask?: string;
  };
  /**
   * Every film must have a mask, and needs no class: the manifest's column `mask` names it, relative to where
   * the films are; in a folder, `images/` and `masks/` have the same names but for the ending. It is in
   * `details.mask`, as an absolute path.
   */
  readonly masked?: boolean;
  /** The data are films with boxes: see {@link readBoxes}. A film's class is then the labels of its boxes. */
  readonly boxed?: boolean;
  /** All films of the folder, also of those in it, are of this class. */
  readonly allOf?: string;
  /** Share of the films for `val`, if the data name no split. Default 0.12. */
  readonly validation?: number;
  /** Seed of that split. Default 1. */
  readonly seed?: number;
  /** Makes thumbnails by `THUMBNAIL_CHAIN`; without it, near copies are not searched. */
  readonly thumbnails?: <F extends Omit<Film, 'split'>>(films: readonly F[]) => Promise<Preparation<F>>;
}

type Unsplit = Omit<Film, 'split'> & { readonly split: Split | undefined };

interface Row {
  readonly path: string;
  readonly name: string;
  readonly class: string;
  readonly split: Split | undefined;
  readonly patient: string;
  readonly boxes?: NonNullable<Film['boxes']>;
  readonly details?: Readonly<Record<string, string>>;
}

/** The class of films that have a mask and no class. */
const UNLABELLED = 'film';

const SPLITS: Readonly<Record<string, Split>> = {
  ...{ train: 'train', training: 'train' },
  ...{ val: 'val', valid: 'val', validation: 'val', dev: 'val', development: 'val' },
  ...{ test: 'test', testing: 'test' },
};

/** By any case, also with what people add: `Train`, `VALIDATION`, `test_set`, `train-data`. */
function splitNamed(name: string): Split | undefined {
  const word = tidy(name)
    .toLowerCase()
    .replace(/[\s_-]?(?:set|split|data|images|films)$/, '');
  return new Map(Object.entries(SPLITS)).get(word);
}

/**
 * Reads labelled films from a manifest (`.csv`, paths relative to it or to `directory`) or from a folder of classes
 * (`DIR/<class>/*.png`, or `DIR/{train,val,test}/<class>/*.png`). Throws `TRAINING_DATA`.
 */
export async function readDataset(path: string, options: DatasetOptions = {}): Promise<Dataset> {
  const { validation = 0.12, seed = 1 } = options;
  const info = await stat(path).catch((cause: unknown) => {
    throw broken(`expected a manifest (CSV) or a folder of classes, but ${path} cannot be read`, cause);
  });
  if (options.boxed === true && info.isDirectory()) {
    throw broken(`expected a manifest of boxes (CSV, or COCO's JSON), but ${path} is a folder`);
  }
  const read = !info.isDirectory()
    ? options.boxed === true
      ? { rows: await boxedRows(path, options), marked: 0, leftOut: [] }
      : await readManifest(path, options)
    : options.masked === true
      ? await readMaskedFolder(path)
      : options.allOf === undefined
        ? await readFolder(path)
        : await readOneClass(path, options.allOf);
  const { marked, leftOut } = read;
  const { rows, merged } = oneSpelling(read.rows);
  if (rows.length === 0) throw broken(`${path} names no films`);

  const { films: hashed, copies, unreadable: unopened } = await hashFilms(rows);
  if (hashed.length === 0) throw broken(`no film of ${path} can be read: ${named(unopened)}`);
  const small = await options.thumbnails?.(hashed);
  const unsplit = small?.films ?? hashed;
  const unreadable = [...unopened, ...(small?.unreadable ?? [])];
  const pairs = small === undefined ? [] : nearDuplicates(small.prepared, unsplit.length);
  const given = unsplit.filter(hasSplit);
  const all = given.length === unsplit.length ? given : drawSplit(unsplit, pairs, validation, seed);
  refuseStraddling(all, path);
  const leaks = leaksInto(all, pairs);
  const films = all.filter((film) => !leaks.has(film));

  const classes = [...new Set(films.map((film) => film.class))].sort();
  const counts: Record<string, Record<string, number>> = {};
  for (const film of films) {
    const split = (counts[film.split] ??= Object.fromEntries(classes.map((name) => [name, 0])));
    split[film.class] = (split[film.class] ?? 0) + 1;
  }
  const lines = films.map((film) => [film.name, film.sha256, film.class, film.split].join('\0')).sort();
  return {
    films,
    classes,
    counts,
    fingerprint: createHash('sha256').update(lines.join('\n')).digest('hex'),
    duplicates: marked + copies,
    unreadable,
    findings: [
      ...leftOutFindings(leftOut),
      ...merged,
      ...findingsOf({ films, classes, counts, copies: marked + copies, unreadable, pairs, all, leaks }),
    ],
    leftOut,
    patients: patientsOf(films),
  };
}

interface Read {
  readonly rows: Row[];
  readonly marked: number;
  readonly leftOut: readonly string[];
}

async function readManifest(
  path: string,
  { columns = {}, directory, masked = false }: DatasetOptions,
): Promise<Read> {
  const duplicateOf = columns.duplicateOf ?? 'duplicate_of';
  let found: TableRow[];
  try {
    found = parseTable(await readText(path)).rows;
  } catch (cause) {
    throw broken(`${path} is not a table (CSV) with a header: ${messageOf(cause)}`, cause);
  }
  const header = Object.keys(found[0]?.record ?? {});
  // Keras calls it `filename`.
  const usual = header.includes('path') || !header.includes('filename') ? 'path' : 'filename';
  const names = { path: usual, class: 'class', split: 'split', patient: 'patient', mask: 'mask', ...columns };
  for (const needed of [names.path, masked ? names.mask : names.class]) {
    if (found.length > 0 && !header.includes(needed)) {
      throw broken(`${path} has no column "${needed}": its columns are ${header.join(', ')}`);
    }
  }
  const originals = found.filter(({ record }) => !record[duplicateOf]);
  const root = resolve(directory ?? dirname(path));
  const known = new Set([...Object.values(names), duplicateOf]);
  const rows = originals.map(({ record, line }): Row => {
    const name = record[names.path] ?? '';
    const split = record[names.split];
    const patient = tidy(record[names.patient] ?? '');
    const label = tidy(record[names.class] ?? '');
    const mask = record[names.mask] ?? '';
    const details = {
      ...Object.fromEntries(Object.entries(record).filter(([column]) => !known.has(column))),
      ...(mask !== '' && { mask: masked ? resolve(root, mask) : mask }),
    };
    const needed = masked ? mask : label;
    if (name === '' || needed === '') {
      const lacking = name === '' ? 'path' : masked ? 'mask' : 'class';
      throw broken(`${path}, line ${line}: the film ${name} has no ${lacking}`);
    }
    const part = split ? splitNamed(split) : undefined;
    if (split && part === undefined) {
      throw broken(
        `${path}, line ${line}: the split of ${name} is "${split}", expected ${Object.keys(SPLITS).join(', ')}`,
      );
    }
    return {
      ...{ path: resolve(root, name), name, class: label === '' ? UNLABELLED : label, split: part },
      patient: patient === '' ? name : patient,
      details,
    };
  });
  const unsplit = rows.filter((row) => row.split === undefined).length;
  if (unsplit > 0 && unsplit < rows.length) {
    throw broken(`${path}: ${unsplit} of ${rows.length} films have no split; give all of them one, or none`);
  }
  return { rows, marked: found.length - originals.length, leftOut: [] };
}

/** Films with boxes. Their class is what they show, so that a split that is drawn has some of all. */
async function boxedRows(path: string, { directory, columns }: DatasetOptions): Promise<Row[]> {
  const root = resolve(directory ?? dirname(path));
  return (await readBoxes(path, columns)).map(({ name, boxes, split, patient, details }) => {
    const part = split === undefined ? undefined : splitNamed(split);
    if (split !== undefined && part === undefined) {
      throw broken(`${path}: the split of ${name} is "${split}", expected ${Object.keys(SPLITS).join(', ')}`);
    }
    const labels = [...new Set(boxes.map(({ label }) => label))].sort();
    return {
      ...{
        path: resolve(root, name),
        name,
        class: labels.join(' + ') || NO_BOX,
        split: part,
        boxes,
        details,
      },
      patient: patient ?? name,
    };
  });
}

/** The class of films without a box. */
const NO_BOX = 'none';

async function readFolder(root: string): Promise<Read> {
  const leftOut: string[] = [];
  const top = await folders(root);
  const splits = top.filter((name) => splitNamed(name) !== undefined);
  if (splits.length > 0 && splits.length < top.length) {
    throw broken(
      `${root} mixes splits (${splits.join(', ')}) and classes (${top.filter((n) => !splits.includes(n)).join(', ')})`,
    );
  }
  const rows: Row[] = [];
  for (const place of splits.length > 0 ? splits : ['']) {
    for (const name of splits.length > 0 ? await folders(join(root, place)) : top) {
      const folder = [place, name].filter(Boolean).join('/');
      for (const film of await filesBelow(root, folder, new Set())) {
        const path = resolve(root, film);
        if (!(await isImage(path))) leftOut.push(film);
        else rows.push({ path, name: film, class: tidy(name), split: splitNamed(place), patient: film });
      }
    }
  }
  if (rows.length === 0) {
    throw broken(
      `${root} holds no films: expected one folder per class with images in it (${root}/<class>/*.png)`,
    );
  }
  return { rows, marked: 0, leftOut };
}

async function readOneClass(root: string, label: string): Promise<Read> {
  const leftOut: string[] = [];
  const rows: Row[] = [];
  for (const film of await filesBelow(root, '.', new Set())) {
    const name = film.slice('./'.length);
    const path = resolve(root, name);
    if (!(await isImage(path))) leftOut.push(name);
    else rows.push({ path, name, class: label, split: undefined, patient: name });
  }
  if (rows.length === 0) throw broken(`${root} holds no films`);
  return { rows, marked: 0, leftOut };
}

/** Sorted names relative to `root`, links followed; a folder that a link leads into again is read once. */
async function filesBelow(root: string, folder: string, seen: Set<string>): Promise<string[]> {
  const real = await realpath(join(root, folder));
  if (seen.has(real)) return [];
  seen.add(real);
  const files: string[] = [];
  for (const entry of (await readdir(real)).filter((name) => !isClutter(name)).sort()) {
    const name = `${folder}/${entry}`;
    const isFolder = await stat(join(root, name)).then(
      (info) => info.isDirectory(),
      () => false,
    );
    if (isFolder) files.push(...(await filesBelow(root, name, seen)));
    else files.push(name);
  }
  return files;
}

const IMAGE = /\.(jpe?g|png|tiff?|webp|bmp|gif|dcm)$/i;

/** By its extension, else by its first bytes: DICOM exports often have no extension, or an unusual one. */
async function isImage(path: string): Promise<boolean> {
  if (IMAGE.test(path)) return true;
  const bytes = Buffer.alloc(132);
  try {
    if (!(await stat(path)).isFile()) return false;
    const handle = await open(path);
    await handle.read(bytes, 0, bytes.length, 0).finally(() => handle.close());
  } catch {
    return false;
  }
  const start = bytes.toString('latin1');
  return (
    start.slice(128) === 'DICM' ||
    /^(?:\xff\xd8\xff|\x89PNG|GIF8|BM|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP)/s.test(start)
  );
}

/** Merges classes whose names differ only in case, under the most frequent name. */
function oneSpelling(rows: readonly Row[]): { rows: Row[]; merged: string[] } {
  const spellings = new Map<string, Map<string, number>>();
  for (const { class: name } of rows) {
    const counts = spellings.get(name.toLowerCase()) ?? new Map<string, number>();
    spellings.set(name.toLowerCase(), counts.set(name, (counts.get(name) ?? 0) + 1));
  }
  const chosen = new Map<string, string>();
  const merged: string[] = [];
  for (const [key, counts] of spellings) {
    const names = [...counts].sort(([, a], [, b]) => b - a).map(([name]) => name);
    chosen.set(key, names[0] ?? key);
    if (names.length > 1) merged.push(`${names.join(', ')} are treated as one class, ${names[0] ?? key}`);
  }
  return {
    rows: rows.map((row) => ({ ...row, class: chosen.get(row.class.toLowerCase()) ?? row.class })),
    merged,
  };
}

function leftOutFindings(leftOut: readonly string[]): string[] {
  return leftOut.length === 0
    ? []
    : [`${leftOut.length} files left out because they are not images (${some(leftOut)})`];
}

/** `images/` and `masks/`, the same names in both but for the ending. */
async function readMaskedFolder(root: string): Promise<Read> {
  const leftOut: string[] = [];
  const list = async (folder: string): Promise<string[]> => {
    const files = await filesBelow(root, folder, new Set()).catch((cause: unknown) => {
      throw broken(
        `${root} has no folder ${folder}/: expected images/ and masks/ with the same names`,
        cause,
      );
    });
    const images: string[] = [];
    for (const file of files) ((await isImage(join(root, file))) ? images : leftOut).push(file);
    return images;
  };
  const stem = (file: string): string =>
    tidy(file.slice(file.indexOf('/') + 1)).replace(/\.[a-z]\w{0,4}$/i, '');
  const found = await list('masks');
  const masks = new Map(found.map((file) => [stem(file), file]));
  const rows = (await list('images')).map((name) => {
    const mask = masks.get(stem(name));
    if (mask === undefined) throw broken(`${join(root, name)} has no mask in ${join(root, 'masks')}`);
    return {
      path: resolve(root, name),
      name,
      class: UNLABELLED,
      split: undefined,
      patient: name,
      details: { mask: resolve(root, mask) },
    };
  });
  return { rows, marked: 0, leftOut };
}

async function folders(dir: string): Promise<string[]> {
  const names = (await readdir(dir)).filter((name) => !isClutter(name)).sort();
  const found = names.map(async (name) => {
    const isFolder = await stat(join(dir, name)).then(
      (info) => info.isDirectory(),
      () => false,
    );
    return isFolder ? [name] : [];
  });
  return (await Promise.all(found)).flat();
}

/** Hashes the files and drops exact copies within a class: they would count twice. */
async function hashFilms(
  rows: readonly Row[],
): Promise<{ films: Unsplit[]; copies: number; unreadable: Unreadable<Row>[] }> {
  const films = new Map<string, Unsplit>();
  const unreadable: Unreadable<Row>[] = [];
  const AT_ONCE = 64;
  for (let i = 0; i < rows.length; i += AT_ONCE) {
    const hashed = rows.slice(i, i + AT_ONCE).map(async (asked): Promise<Unsplit | Unreadable<Row>> => {
      const { path, details } = asked;
      const mask = details?.mask ?? '';
      const row = {
        ...{ ...asked, path: await existingPath(path) },
        ...(isAbsolute(mask) && { details: { ...details, mask: await existingPath(mask) } }),
      };
      const bytes = await readFile(row.path).catch((cause: unknown) => messageOf(cause));
      if (typeof bytes === 'string') return { film: row, reason: bytes };
      if (bytes.length === 0) return { film: row, reason: 'the file is empty' };
      return { ...row, sha256: createHash('sha256').update(bytes).digest('hex') };
    });
    for (const film of await Promise.all(hashed)) {
      if ('reason' in film) {
        unreadable.push(film);
        continue;
      }
      const twin = films.get(film.sha256);
      if (twin !== undefined && twin.class !== film.class) {
        throw broken(
          `${twin.name} and ${film.name} are the same file in two classes (${twin.class}, ${film.class})`,
        );
      }
      if (twin === undefined) films.set(film.sha256, film);
    }
  }
  return { films: [...films.values()], copies: rows.length - unreadable.length - films.size, unreadable };
}

function hasSplit(film: Unsplit): film is Film {
  return film.split !== undefined;
}

/** The number of patients; null if unknown for some films. */
function patientsOf(films: readonly Film[]): number | null {
  return films.every((film) => film.patient !== film.name)
    ? new Set(films.map((film) => film.patient)).size
    : null;
}

interface Found extends Pick<Dataset, 'films' | 'classes' | 'counts' | 'unreadable'> {
  readonly copies: number;
  readonly pairs: readonly Pair[];
  /** The films that the pairs index. */
  readonly all: readonly Film[];
  readonly leaks: ReadonlySet<Film>;
}

function findingsOf({ films, classes, counts, copies, unreadable, pairs, all, leaks }: Found): string[] {
  const findings: string[] = [];
  if (unreadable.length > 0) {
    findings.push(`${unreadable.length} films left out because they cannot be read (${named(unreadable)})`);
  }
  if (copies > 0) findings.push(`${copies} exact copies left out`);
  if (pairs.length > 0) {
    const kept =
      leaks.size > 0
        ? `${leaks.size} training films left out because they nearly equal films of another split`
        : 'kept on one side';
    findings.push(
      `${pairs.length} pairs of near copies (${some(pairs.map((pair) => namesOf(all, pair)))}): ${kept}`,
    );
  }
  const torn = pairs.filter(([a, b]) => all[a]?.class !== all[b]?.class);
  if (torn.length > 0) {
    findings.push(
      `${torn.length} pairs of near copies have two classes (${some(torn.map((pair) => namesOf(all, pair)))}): ` +
        'one of each pair is labelled wrongly',
    );
  }
  if (patientsOf(films) === null) {
    findings.push(
      'the patients of these films are not known: one patient may be in two splits, which makes the figures too good',
    );
  }
  for (const [split, mine] of Object.entries(counts)) {
    const absent = classes.filter((name) => mine[name] === 0);
    if (absent.length > 0) findings.push(`${split} has no films of ${absent.join(', ')}`);
  }
  return findings;
}

function namesOf(films: readonly Film[], [a, b]: Pair): string {
  return `${films[a]?.name ?? ''} = ${films[b]?.name ?? ''}`;
}

function some(names: readonly string[]): string {
  return names.length > 3 ? `${names.slice(0, 3).join(', ')}, …` : names.join(', ');
}

function refuseStraddling(films: readonly Film[], path: string): void {
  const patients = straddling(films);
  if (patients.length === 0) return;
  throw broken(
    `${path}: ${patients.length} patients have films in more than one split (${some(patients)}): ` +
      'the validation would be too good',
  );
}

function broken(message: string, cause?: unknown): RxrayError {
  return new RxrayError('TRAINING_DATA', message, { cause });
}
