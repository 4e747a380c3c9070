import { readFileSync } from 'node:fs';

/** The widest vectors that the processor has: what decides how fast a network is. */
export function vectorWidth(): string {
  try {
    const flags = readFileSync('/proc/cpuinfo', 'utf8');
    if (/\bavx512f\b/.test(flags)) return 'AVX-512';
    return /\bavx2\b/.test(flags) ? 'AVX2' : 'no AVX2';
  } catch {
    return 'vector width unknown';
  }
}
