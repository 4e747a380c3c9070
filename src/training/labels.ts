import { stat } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { RxrayError, messageOf } from '../core/errors.js';
import { readText, tidy } from './text-file.js';

/**
 * A model's labels in the order of its outputs: `a,b,c`; or a file with one a line, a JSON list, or a JSON object from
 * index to label (`id2label`). Throws `IMPORT_REFUSED` with the list where a label is blank or occurs twice.
 */
export async function readLabels(given: string): Promise<string[]> {
  const isFile = await stat(given).then(
    (info) => info.isFile(),
    () => !given.includes(',') && extname(given) !== '',
  );
  return checked(isFile ? await fromFile(given) : given.split(','));
}

/** Where exporters keep labels: keys of an ONNX file's metadata, and files in the model's folder. */
const KEYS = ['labels', 'classes', 'class_names', 'names', 'id2label'];
const FILES = ['labels.txt', 'labels.json', 'classes.txt', 'classes.json', 'config.json'];

/**
 * The labels that come with a model, and their source; undefined without any. Looks into its metadata (a JSON list, an
 * object from index to label, as Python prints it too, or `a,b,c`), then for `MODEL.labels.txt`, `labels.txt` and the
 * like beside it (`config.json` counts with an `id2label`). Throws as {@link readLabels} does.
 */
export async function labelsWith(
  model: string,
  metadata: Readonly<Record<string, string>>,
): Promise<{ readonly labels: string[]; readonly from: string } | undefined> {
  for (const key of KEYS) {
    const text = metadata[key];
    if (text === undefined || text.trim() === '') continue;
    const from = `the model's metadata "${key}"`;
    return {
      labels: checked(/^\s*[[{]/.test(text) ? fromJson(from, asJson(text)) : text.split(/[,\n]/)),
      from,
    };
  }
  const stem = basename(model, extname(model));
  for (const name of [`${stem}.labels.txt`, `${stem}.labels.json`, ...FILES]) {
    const path = join(dirname(model), name);
    const text = await readText(path).catch(() => undefined);
    if (text === undefined || (name === 'config.json' && !text.includes('"id2label"'))) continue;
    return { labels: checked(await fromFile(path)), from: path };
  }
  return undefined;
}

/** Python prints `{0: 'normal', 1: 'opacity'}`. */
function asJson(text: string): string {
  return text.includes('"') ? text : text.replaceAll("'", '"').replace(/(?<=[{,]\s*)(\d+)(?=\s*:)/g, '"$1"');
}

/** Throws `IMPORT_REFUSED` with the list where a label is blank or occurs twice. */
function checked(given: readonly string[]): string[] {
  const labels = given.map(tidy);
  const blank = labels.flatMap((label, i) => (label === '' ? [i + 1] : []));
  if (blank.length > 0) throw refused(`label ${blank.join(', ')} of ${labels.length} is blank`, labels);
  const positions = new Map<string, number[]>();
  labels.forEach((label, i) => {
    const key = label.toLowerCase();
    positions.set(key, [...(positions.get(key) ?? []), i + 1]);
  });
  const double = [...positions.values()].filter((found) => found.length > 1);
  if (double.length > 0) {
    const found = double.map((at) => `"${labels[(at[0] ?? 1) - 1] ?? ''}" is label ${at.join(' and ')}`);
    throw refused(`each output needs a label of its own: ${found.join(', ')}`, labels);
  }
  return labels;
}

async function fromFile(path: string): Promise<string[]> {
  let text: string;
  try {
    text = await readText(path);
  } catch (cause) {
    throw new RxrayError('IMPORT_REFUSED', `the labels in ${path} cannot be read: ${messageOf(cause)}`, {
      cause,
    });
  }
  if (/^\s*[[{]/.test(text)) return fromJson(path, text);
  const lines = text.split(/\r\n|\n|\r/);
  // Blank lines at the end are ignored.
  while (lines.at(-1)?.trim() === '') lines.pop();
  return lines;
}

function fromJson(path: string, text: string): string[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new RxrayError('IMPORT_REFUSED', `the labels in ${path} are not valid JSON`, { cause });
  }
  const byIndex = Array.isArray(json)
    ? json
    : inOrder(((json as { id2label?: object }).id2label ?? json) as object);
  if (byIndex?.every((label): label is string => typeof label === 'string') === true) return byIndex;
  throw new RxrayError(
    'IMPORT_REFUSED',
    `expected a list of labels in ${path}, or an object with the labels 0, 1, 2, … in order`,
  );
}

/** `{ "0": "normal", "1": "opacity" }`; undefined where an index is missing. */
function inOrder(json: object): unknown[] | undefined {
  const labels = new Map(Object.entries(json));
  const ordered = Array.from({ length: labels.size }, (_, i) => labels.get(String(i)) as unknown);
  return ordered.includes(undefined) ? undefined : ordered;
}

function refused(message: string, labels: readonly string[]): RxrayError {
  return new RxrayError(
    'IMPORT_REFUSED',
    `${message}. The labels are ${labels.map((label) => JSON.stringify(label)).join(', ')}`,
  );
}

/** Usual names of the healthy label. */
const HEALTHY = ['normal', 'healthy', 'no finding', 'no findings', 'no_finding'];

/** The healthy label by its name, if none is given. */
export function usualHealthyLabels(labels: readonly string[]): string[] {
  return labels.filter((label) => HEALTHY.includes(label.toLowerCase()));
}

/** Findings that occur together on chest films: the labels of ChestX-ray14 and CheXpert. */
const FINDINGS =
  'atelectasis cardiomegaly consolidation edema effusion emphysema enlargedcardiomediastinum fibrosis fracture hernia infiltration ' +
  'lunglesion lungopacity mass nodule pleuraleffusion pleuralthickening pleuralother pneumonia pneumothorax supportdevices';

/** Whether the labels look like findings of which a film may have several. */
export function areFindings(labels: readonly string[]): boolean {
  const known = new Set(FINDINGS.split(' '));
  return labels.filter((label) => known.has(label.toLowerCase().replace(/[^a-z]/g, ''))).length >= 3;
}
