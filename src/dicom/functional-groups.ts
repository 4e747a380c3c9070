import type { DataSet } from './data-set.js';

const SHARED = 0x52009229;
const PER_FRAME = 0x52009230;

/** The macros of Enhanced objects that decide how a frame looks (PS3.3, C.7.6.16.2). */
const MACROS = {
  pixelValues: 0x00289145,
  window: 0x00289132,
  measures: 0x00289110,
} as const;
export type Macro = keyof typeof MACROS;

/**
 * Where to look for an attribute of frame `frame`, counted from 0: its own functional group, then the shared one,
 * then the data set itself.
 */
export function groupOf(dataSet: DataSet, frame: number, macro: Macro): DataSet {
  const own = dataSet.items(PER_FRAME)[frame]?.items(MACROS[macro])[0];
  return own ?? dataSet.items(SHARED)[0]?.items(MACROS[macro])[0] ?? dataSet;
}
