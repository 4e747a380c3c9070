import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
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
  const labels = (isFile ? await fromFile(given) : given.split(',')).map(tidy);
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
    throw refused(`a label stands for one output: ${found.join(', ')}`, labels);
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
