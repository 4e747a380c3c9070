import { createHash } from 'node:crypto';
import type { Item } from '../../dicom/write.js';

/** A coded concept (PS3.3, table 8.8-1). */
export interface Code {
  /** At most 16 characters. */
  readonly value: string;
  readonly scheme: string;
  /** At most 64 characters. */
  readonly meaning: string;
}

export const dcm = (value: string, meaning: string): Code => ({ value, scheme: 'DCM', meaning });
export const sct = (value: string, meaning: string): Code => ({ value, scheme: 'SCT', meaning });
export const ucum = (value: string, meaning: string): Code => ({ value, scheme: 'UCUM', meaning });

/** A concept of this program, with a code derived from its meaning: the same words always have the same code. */
export function own(meaning: string): Code {
  const value = createHash('sha256').update(meaning).digest('hex').slice(0, 12).toUpperCase();
  return { value: `RX${value}`, scheme: '99RXRAY', meaning: cut(meaning, 64) };
}

type Relationship =
  'CONTAINS' | 'HAS OBS CONTEXT' | 'HAS CONCEPT MOD' | 'HAS PROPERTIES' | 'SELECTED FROM' | 'INFERRED FROM';

/** A node of the content tree (PS3.3, C.17.3), without its relationship to its parent. */
export type Content = (relationship: Relationship) => Item;

export function container(concept: Code, children: readonly Item[], template?: string): Content {
  return node('CONTAINER', concept, [
    [0x0040a050, 'CS', 'SEPARATE'],
    ...(template === undefined
      ? []
      : [
          [
            0x0040a504,
            'SQ',
            [
              [
                [0x00080105, 'CS', 'DCMR'],
                [0x0040db00, 'CS', template],
              ],
            ],
          ] as const,
        ]),
    ...childrenOf(children),
  ]);
}

export function text(concept: Code, value: string): Content {
  return node('TEXT', concept, [[0x0040a160, 'UT', value]]);
}

export function uidReference(concept: Code, uid: string): Content {
  return node('UIDREF', concept, [[0x0040a124, 'UI', uid]]);
}

export function coded(concept: Code, value: Code): Content {
  return node('CODE', concept, [[0x0040a168, 'SQ', [codeItem(value)]]]);
}

/** A number, written with at most 16 characters, as DS requires. */
export function number(concept: Code, value: number, unit: Code): Content {
  return node('NUM', concept, [
    [
      0x0040a300,
      'SQ',
      [
        [
          [0x0040a30a, 'DS', decimal(value)],
          [0x004008ea, 'SQ', [codeItem(unit)]],
        ],
      ],
    ],
  ]);
}

export interface ImageReference {
  readonly sopClass: string;
  readonly instance: string;
  /** Of a film with several frames, counted from 1. */
  readonly frame?: number | undefined;
}

export function image(reference: ImageReference): Content {
  return node('IMAGE', undefined, [[0x00081199, 'SQ', [referenceItem(reference)]]]);
}

/** In pixels of the film, x to the right and y downwards from its upper left corner. */
export type Rectangle = Readonly<Record<'x' | 'y' | 'width' | 'height', number>>;

/** A rectangle in the film. */
export function rectangle(concept: Code, shape: Rectangle, reference: ImageReference): Content {
  return node('SCOORD', concept, [
    [0x00700022, 'FL', outlineOf(shape)],
    [0x00700023, 'CS', 'POLYLINE'],
    ...childrenOf([image(reference)('SELECTED FROM')]),
  ]);
}

/** The closed line around a rectangle: x and y of each corner by turns. */
export function outlineOf({ x, y, width, height }: Rectangle): number[] {
  return [x, y, x + width, y, x + width, y + height, x, y + height, x, y];
}

export function referenceItem({ sopClass, instance, frame }: ImageReference): Item {
  return [
    [0x00081150, 'UI', sopClass],
    [0x00081155, 'UI', instance],
    ...(frame === undefined ? [] : [[0x00081160, 'IS', String(frame)] as const]),
  ];
}

function node(type: string, concept: Code | undefined, rest: Item): Content {
  return (relationship) => [
    [0x0040a010, 'CS', relationship],
    [0x0040a040, 'CS', type],
    ...(concept === undefined ? [] : [[0x0040a043, 'SQ', [codeItem(concept)]] as const]),
    ...rest,
  ];
}

function childrenOf(children: readonly Item[]): Item {
  return children.length === 0 ? [] : [[0x0040a730, 'SQ', children]];
}

export function codeItem({ value, scheme, meaning }: Code): Item {
  return [
    [0x00080100, 'SH', value],
    [0x00080102, 'SH', scheme],
    [0x00080104, 'LO', meaning],
  ];
}

function decimal(value: number): string {
  const [exact, short] = [String(value), value.toPrecision(9)];
  return exact.length <= 16 ? exact : short;
}

/** At most `most` characters, without control characters and backslashes, which DICOM reserves. */
export function cut(value: string, most: number): string {
  return (
    Array.from(value.replaceAll(/[\\\p{Cc}]/gu, ' '))
      .slice(0, most)
      .join('')
      .trim() || '-'
  );
}
