import { InvalidArgumentError } from 'commander';

/** A number of at least 0. */
export function number(text: string): number {
  return parsed(text, 'a number that is not negative', (value) => Number.isFinite(value) && value >= 0);
}

/** A number from 0 to 1. */
export function share(text: string): number {
  return parsed(text, 'a number from 0 to 1', (value) => value >= 0 && value <= 1);
}

export function whole(text: string): number {
  return parsed(text, 'a whole number from 0', (value) => Number.isInteger(value) && value >= 0);
}

export function positive(text: string): number {
  return parsed(text, 'a whole number from 1', (value) => Number.isInteger(value) && value >= 1);
}

export function upTo(most: number): (text: string) => number {
  return (text) =>
    parsed(
      text,
      `a whole number from 1 to ${most}`,
      (value) => Number.isInteger(value) && value >= 1 && value <= most,
    );
}

function parsed(text: string, expected: string, isValid: (value: number) => boolean): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (isValid(value)) return value;
  throw new InvalidArgumentError(`expected ${expected}`);
}
