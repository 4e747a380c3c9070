import { mkdir, realpath } from 'node:fs/promises';
import { dirname, join, parse, sep } from 'node:path';
import { z } from 'zod';
import { durably } from '../core/durable.js';
import { messageOf, RxrayError } from '../core/errors.js';
import { isCode, shortened, syncFolder, writeWhole } from '../core/files.js';
import { renderedOf, type Frame } from '../core/frame.js';
import { NOTICE } from '../core/notice.js';
import { defineSink, type LintMessage, type SinkInstance, type SinkServices } from '../core/plugin.js';
import { annotate } from './folder/annotate.js';
import { oneByOne } from './one-by-one.js';
import { plain } from './plain.js';
import { writeError } from './trouble.js';

const options = z.strictObject({
  path: z
    .string()
    .min(1)
    .describe('The folder; it is created if it is missing. Nothing is written outside it.'),
  name: z
    .string()
    .default('{id}')
    .describe(
      'Name of the files, without extension: text with `{id}` (required), `{stem}` and `{folder}` (name and ' +
        'subfolder of the film), `{source}`, `{day}` (UTC) and `/` for subfolders. Names of films may be names of patients.',
    ),
  picture: z
    .boolean()
    .default(true)
    .describe('Write `<name>.png`: the film with its label, its scores, its boxes and its anomaly map.'),
  json: z.boolean().default(true).describe('Write `<name>.json`: all results.'),
  map: z.boolean().default(true).describe('Lay the anomaly map over the picture.'),
  size: z.int().min(64).max(8192).default(768).describe('Longer side of the film in the picture, in pixels.'),
  includeFile: z
    .boolean()
    .default(true)
    .describe(
      "Write the file name into the JSON. File names may contain patients' names: `false` leaves them out.",
    ),
});
type FolderOptions = z.output<typeof options>;

export default defineSink({
  name: 'folder',
  summary: 'Writes an annotated PNG and a JSON file per film into a folder.',
  options,
  examples: [
    { title: 'By frame id', with: { path: './out/films' } },
    {
      title: 'One folder per day, with the names of the films',
      with: { path: './out/films', name: '{day}/{stem}-{id}' },
    },
  ],
  maxBatch: 8,
  pixels: ({ picture }) => picture,
  render: annotate,
  rendering: ({ picture, size, map }) => (picture ? { size, map } : undefined),
  writes: ({ path, name, picture, json }) => {
    const place = join(path, name.replaceAll(/\{\w+\}/g, 'x'));
    return [...(picture ? [`${place}.png`] : []), ...(json ? [`${place}.json`] : [])];
  },
  lint: ({ name }) => {
    const message = faultOf(name);
    return message === undefined
      ? []
      : [{ severity: 'error', option: ['name'], message } satisfies LintMessage];
  },
  create: folderSink,
});

/** Room for the id and an extension is left in the 255 bytes that a name may have. */
const STEM_BYTES = 120;

const PLACEHOLDERS: Readonly<Record<string, (frame: Frame) => string>> = {
  id: ({ id }) => id,
  stem: ({ origin }) => shortened(parse(origin.name).name, STEM_BYTES),
  folder: ({ origin }) => parse(origin.name).dir,
  source: ({ origin }) => origin.source,
  day: ({ origin }) => origin.receivedAt.slice(0, 10),
};

async function folderSink(settings: FolderOptions, services: SinkServices): Promise<SinkInstance> {
  const { id: component } = services;
  const fault = faultOf(settings.name);
  if (fault !== undefined) throw new RxrayError('CONFIG_CREATE', `name: ${fault}`, { component });
  const folder = services.resolve(settings.path);
  const unwritable = (cause: unknown): RxrayError =>
    new RxrayError('OUTPUT_UNWRITABLE', `${settings.path} cannot be written: ${messageOf(cause)}`, {
      component,
      cause,
    });
  const root = await mkdir(folder, { recursive: true })
    .then(() => realpath(folder))
    .catch((cause: unknown) => {
      throw unwritable(cause);
    });

  /** The path of the frame's files, without extension; creates its folder. Throws if the path would be outside. */
  async function placeOf(frame: Frame): Promise<string> {
    const place = join(root, nameOf(settings.name, frame));
    // Links inside the folder may lead out of it. A new file is where its parent folder is.
    for (let dir = root, rest = dirname(place).slice(root.length).split(sep).filter(Boolean); ;) {
      const real = await realpath(dir);
      if (real !== root && !real.startsWith(root + sep)) {
        throw new RxrayError('FRAME_SINK', `${settings.path} holds a link that leads out of it`, {
          component,
        });
      }
      const [next] = rest;
      if (next === undefined) return place;
      dir = join(dir, next);
      rest = rest.slice(1);
      await mkdir(dir).catch((error: unknown) => {
        if (!isCode(error, 'EEXIST')) throw error;
      });
    }
  }

  async function write(frames: readonly Frame[]): Promise<void> {
    const films = [...new Map(frames.map((frame) => [frame.id, frame])).values()];
    const pictures = await Promise.all(
      films.map((frame) =>
        settings.picture ? renderedOf(frame, () => annotate(frame, settings)) : Promise.resolve(undefined),
      ),
    );
    const folders = new Set<string>();
    try {
      for (const [index, frame] of films.entries()) {
        const place = await placeOf(frame);
        const picture = pictures[index];
        if (picture !== undefined) {
          await durably('folder.picture', () => writeWhole(`${place}.png`, picture));
        }
        if (settings.json) {
          const text = `${JSON.stringify({ ...plain(frame, settings.includeFile), notice: NOTICE }, null, 2)}\n`;
          await durably('folder.json', () => writeWhole(`${place}.json`, Buffer.from(text)));
        }
        for (let dir = dirname(place); dir.length >= root.length; dir = dirname(dir)) folders.add(dir);
      }
      for (const dir of folders) await durably('folder.sync', () => syncFolder(dir));
    } catch (error) {
      // A name that the file system does not accept fails only this film.
      if (error instanceof RxrayError || isCode(error, 'ENAMETOOLONG')) throw error;
      throw writeError(settings.path, component, error);
    }
  }

  return oneByOne('folder', write, () => undefined);
}

function faultOf(template: string): string | undefined {
  const names = [...template.matchAll(/\{([^{}]*)\}/g)].map(([, name = '']) => name);
  const unknown = names.find((name) => !Object.hasOwn(PLACEHOLDERS, name));
  const known = Object.keys(PLACEHOLDERS).map((name) => `{${name}}`);
  if (unknown !== undefined) return `\`{${unknown}}\` is none of ${known.join(', ')}`;
  if (!names.includes('id')) return 'expected `{id}` in it: two films may have the same name';
  if (template.startsWith('/') || template.split(/[\\/]/).some((part) => part === '..')) {
    return 'expected a name inside the folder: neither `/` in front nor `..`';
  }
  return undefined;
}

/** The template filled for the frame, with parts that every file system accepts. */
export function nameOf(template: string, frame: Frame): string {
  return template
    .replaceAll(/\{(\w+)\}/g, (_, name: string) => PLACEHOLDERS[name]?.(frame) ?? '')
    .split('/')
    .filter((part) => part !== '')
    .map((part) =>
      part
        .replaceAll(/[\p{Cc}\p{Cs}<>:"|?*\\]/gu, '_')
        .replace(/^\.+|[. ]+$/g, '_')
        .replace(/^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)/i, '_$1'),
    )
    .join(sep);
}
