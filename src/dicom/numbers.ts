import type { DataSet } from './data-set.js';

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

/** The values of a decimal string (DS); undefined in the place of one that is no finite number. */
export function decimals(dataSet: DataSet, tag: number): (number | undefined)[] {
  return dataSet.strings(tag).map((padded) => {
    const text = padded.trim();
    const value = NUMBER.test(text) ? Number(text) : NaN;
    return Number.isFinite(value) ? value : undefined;
  });
}

/** The first value; undefined when it is missing, and with a warning when it is there but no number. */
export function decimal(dataSet: DataSet, tag: number, name: string, warnings: string[]): number | undefined {
  const element = dataSet.elements.get(tag);
  if (element === undefined || element.length === 0) return undefined;
  const [value] = decimals(dataSet, tag);
  if (value === undefined) warnings.push(`${name} is no number and was ignored`);
  return value;
}
