import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { RxrayError } from '../../core/errors.js';
import type { Frame } from '../../core/frame.js';
import { inBytes } from '../../dicom/character-sets.js';
import type { DataSet } from '../../dicom/data-set.js';
import { groupOf, type Macro } from '../../dicom/functional-groups.js';
import { isDicom, parse } from '../../dicom/parse.js';

/** The part of a film's header that an object about it repeats, so that both are filed under the same patient and study. */
export interface SourceFilm {
  readonly sopClass: string;
  readonly instance: string;
  readonly study: string;
  readonly series: string;
  /** The number of frames in the file. */
  readonly frames: number;
  /** Whether stored values may be negative. */
  readonly signed: boolean;
  /** Text of an attribute, in Unicode; empty where it is missing. */
  text(tag: number): string;
  /** The values of an attribute of codes or numbers. */
  values(tag: number): readonly string[];
  /** The items of a sequence. */
  items(tag: number): readonly DataSet[];
  /** Where the attributes of a macro are for a frame, counted from 0. */
  group(frame: number, macro: Macro): DataSet;
}

const MAX_BYTES = 2 ** 31 - 1;

/**
 * The header of the frame's DICOM file, read again from the file: no patient data passes through the graph or the journal.
 *
 * Throws FRAME_SINK if the film is gone, has been replaced, or is not a DICOM object of a patient's study.
 */
export async function readSourceFilm({ origin }: Frame, component: string): Promise<SourceFilm> {
  const refused = (reason: string, cause?: unknown): RxrayError =>
    new RxrayError('FRAME_SINK', reason, { component, cause });
  const bytes = await readFile(origin.path).catch((cause: unknown) => {
    throw refused("the film's file is gone, so the patient and study for its report are unknown", cause);
  });
  if (createHash('sha256').update(bytes).digest('hex') !== origin.sha256) {
    throw refused('another film has replaced the processed one: it gets no report');
  }
  if (!isDicom(bytes)) throw refused('the film is not a DICOM file: there is no study for its report');
  const { dataSet, sopClass = '' } = parse(bytes, { maxBytes: MAX_BYTES }, []);
  const uid = (tag: number): string => dataSet.string(tag) ?? '';
  const film = {
    sopClass,
    instance: uid(0x00080018),
    study: uid(0x0020000d),
    series: uid(0x0020000e),
    frames: Number(dataSet.string(0x00280008) ?? 1),
    signed: dataSet.uint16(0x00280103) === 1,
    text: textOf(dataSet),
    values: (tag: number) => dataSet.strings(tag),
    items: (tag: number) => dataSet.items(tag),
    group: (frame: number, macro: Macro) => groupOf(dataSet, frame, macro),
  };
  for (const name of ['sopClass', 'instance', 'study', 'series'] as const) {
    if (!/^[\d.]{1,64}$/.test(film[name])) {
      throw refused(`the film has no usable UID of its ${name === 'sopClass' ? 'SOP class' : name}`);
    }
  }
  return film;
}

function textOf(dataSet: DataSet): (tag: number) => string {
  return (tag) => {
    const text = inBytes(dataSet.value(tag) ?? Buffer.alloc(0), dataSet.strings(0x00080005), []);
    // A backslash would separate two values, and control characters are not allowed in a short text.
    return text.replaceAll(/[\\\p{Cc}\ufffd]/gu, ' ').trim();
  };
}
