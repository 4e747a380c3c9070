import { z } from 'zod';
import { messageOf, RxrayError } from '../core/errors.js';
import type { Film } from './film.js';
import { parseTable, readText, tidy, type TableRow } from './text-file.js';

/** A film and its boxes as a file names them. */
export interface BoxedFilm {
  readonly name: string;
  readonly boxes: NonNullable<Film['boxes']>;
  readonly split: string | undefined;
  readonly patient: string | undefined;
  readonly details: Readonly<Record<string, string>>;
}

interface Columns {
  readonly path?: string;
  /** The label of the box. */
  readonly class?: string;
  readonly split?: string;
  readonly patient?: string;
}

/**
 * Reads films with boxes: a CSV with a line for each box (`path, label, x, y, w, h`, in pixels of the film from its upper
 * left corner; `split` and `patient` where known) and one with an empty label for a film without any, or COCO's JSON (`images`,
 * `annotations` with `bbox`, `categories`; crowds are left out). Films come in the order in which they are named first.
 * Throws `TRAINING_DATA`.
 */
export async function readBoxes(path: string, columns: Columns = {}): Promise<BoxedFilm[]> {
  const text = await readText(path).catch((cause: unknown) => {
    throw broken(`${path} cannot be read: ${messageOf(cause)}`, cause);
  });
  return text.trimStart().startsWith('{') ? ofCoco(text, path) : ofTable(text, path, columns);
}

const NUMBERS = ['x', 'y', 'w', 'h'] as const;

function ofTable(text: string, path: string, columns: Columns): BoxedFilm[] {
  let found: TableRow[];
  let decimal: string;
  try {
    ({ rows: found, decimal } = parseTable(text));
  } catch (cause) {
    throw broken(`${path} is neither a table (CSV) with a header nor JSON: ${messageOf(cause)}`, cause);
  }
  const names = { path: 'path', class: 'label', split: 'split', patient: 'patient', ...columns };
  const header = Object.keys(found[0]?.record ?? {});
  const missing = [names.path, names.class, ...NUMBERS].filter((column) => !header.includes(column));
  if (found.length > 0 && missing.length > 0) {
    throw broken(`${path} has no column "${missing.join('", "')}": its columns are ${header.join(', ')}`);
  }
  const known = new Set<string>([...Object.values(names), ...NUMBERS]);
  const films = new Map<string, Omit<BoxedFilm, 'boxes'> & { boxes: BoxedFilm['boxes'][number][] }>();
  for (const { record, line } of found) {
    const where = `${path}, line ${line}`;
    const name = record[names.path] ?? '';
    if (name === '') throw broken(`${where}: the film has no path`);
    const given = {
      split: record[names.split] === '' ? undefined : record[names.split],
      patient: tidy(record[names.patient] ?? '') || undefined,
    };
    const film = films.get(name) ?? {
      ...{ name, boxes: [], ...given },
      details: Object.fromEntries(Object.entries(record).filter(([column]) => !known.has(column))),
    };
    films.set(name, film);
    if (film.split !== given.split || film.patient !== given.patient) {
      throw broken(`${where}: ${name} has another split or patient than on an earlier line`);
    }
    const label = tidy(record[names.class] ?? '');
    if (label === '') continue;
    const [x, y, width, height] = NUMBERS.map((column) =>
      record[column] === '' ? NaN : Number(record[column]?.replace(decimal, '.')),
    ) as [number, number, number, number];
    film.boxes.push(checked({ x, y, width, height, label }, `${where}: ${name}`));
  }
  return [...films.values()];
}

const coco = z.object({
  images: z.array(z.object({ id: z.union([z.int(), z.string()]), file_name: z.string() })),
  annotations: z.array(
    z.object({
      image_id: z.union([z.int(), z.string()]),
      category_id: z.int(),
      bbox: z.tuple([z.number(), z.number(), z.number(), z.number()]),
      iscrowd: z.union([z.int(), z.boolean()]).optional(),
    }),
  ),
  categories: z.array(z.object({ id: z.int(), name: z.string() })),
});

function ofCoco(text: string, path: string): BoxedFilm[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw broken(`${path} is not valid JSON: ${messageOf(cause)}`, cause);
  }
  const parsed = coco.safeParse(json);
  if (!parsed.success) throw broken(`${path} is not in COCO's form: ${z.prettifyError(parsed.error)}`);
  const { images, annotations, categories } = parsed.data;
  const labels = new Map(categories.map(({ id, name }) => [id, tidy(name)]));
  const films = new Map(
    images.map(({ id, file_name: name }) => [
      id,
      { name, boxes: [] as BoxedFilm['boxes'][number][], split: undefined, patient: undefined, details: {} },
    ]),
  );
  annotations.forEach(({ image_id: image, category_id: category, bbox, iscrowd = 0 }, i) => {
    const film = films.get(image);
    const label = labels.get(category);
    if (film === undefined || label === undefined) {
      const what = film === undefined ? `image ${image}` : `category ${category}`;
      throw broken(`${path}: annotation ${i + 1} is of ${what}, which the file does not have`);
    }
    if (Number(iscrowd) !== 0) return;
    const [x, y, width, height] = bbox;
    film.boxes.push(checked({ x, y, width, height, label }, `${path}, annotation ${i + 1}: ${film.name}`));
  });
  return [...films.values()];
}

function checked(box: BoxedFilm['boxes'][number], where: string): BoxedFilm['boxes'][number] {
  const { x, y, width, height } = box;
  if ([x, y].every(Number.isFinite) && width > 0 && height > 0 && Number.isFinite(width + height)) return box;
  throw broken(
    `${where}: expected a box with x, y and a width and height above 0, got ${x}, ${y}, ${width}, ${height}`,
  );
}

function broken(message: string, cause?: unknown): RxrayError {
  return new RxrayError('TRAINING_DATA', message, { cause });
}
