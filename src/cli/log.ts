import pc from 'picocolors';
import { pino } from 'pino';
import type { Log } from '../core/plugin.js';

const PAINT = { debug: pc.dim, info: pc.dim, warn: pc.yellow, error: pc.red };

/**
 * The log of the process, on standard error: readable lines on a terminal, JSON lines (pino) otherwise.
 * `RXRAY_LOG` sets the level: debug, info, warn (the default), error or silent.
 */
export function createLog(): Log {
  const level = process.env.RXRAY_LOG ?? 'warn';
  if (process.stderr.isTTY) return pino({ level }, { write: writeReadable });
  const lines = pino.destination({ dest: 2, sync: true });
  // The reader of the log may have gone; processing continues.
  lines.on('error', () => undefined);
  return pino({ level }, lines);
}

function writeReadable(line: string): void {
  const { level, msg } = JSON.parse(line) as { level: number; msg: string };
  const name =
    (Object.keys(PAINT) as (keyof typeof PAINT)[]).find((each) => pino.levels.values[each] === level) ??
    'error';
  process.stderr.write(`${PAINT[name](name)} ${msg}\n`);
}
