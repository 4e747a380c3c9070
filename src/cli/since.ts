import { InvalidArgumentError } from 'commander';

const UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `90m`, `24h` and `7d` before now, or a date (ISO 8601), in milliseconds since 1970. */
export function sinceOf(value: string): number {
  const [, count, unit = ''] = /^(\d+)([mhd])$/.exec(value) ?? [];
  const time = count === undefined ? Date.parse(value) : Date.now() - Number(count) * (UNITS[unit] ?? 0);
  if (Number.isFinite(time)) return time;
  throw new InvalidArgumentError(`expected 90m, 24h, 7d or a date such as 2026-01-31, got "${value}"`);
}
