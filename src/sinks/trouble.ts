import { messageOf, RxrayError, Unavailable } from '../core/errors.js';

/** System errors of a file that may become writable again: disk full, locked, busy, not mounted, not reachable. */
const PASSING: ReadonlySet<string> = new Set([
  ...[
    'EACCES',
    'EAGAIN',
    'EBUSY',
    'EDQUOT',
    'EHOSTDOWN',
    'EHOSTUNREACH',
    'EINTR',
    'EIO',
    'EMFILE',
    'ENETDOWN',
  ],
  ...['ENETUNREACH', 'ENFILE', 'ENODEV', 'ENOENT', 'ENOMEM', 'ENOSPC', 'ENOTCONN', 'ENXIO', 'EPERM', 'EROFS'],
  ...['ESTALE', 'ETIMEDOUT', 'ETXTBSY'],
  ...['SQLITE_BUSY', 'SQLITE_CANTOPEN', 'SQLITE_FULL', 'SQLITE_INTERRUPT', 'SQLITE_IOERR', 'SQLITE_LOCKED'],
  ...['SQLITE_NOMEM', 'SQLITE_PERM', 'SQLITE_PROTOCOL', 'SQLITE_READONLY'],
]);

/**
 * The error of a sink that could not write to `path`: {@link Unavailable} for a temporary outage, in which films wait;
 * otherwise OUTPUT_UNWRITABLE, which ends the run.
 */
export function writeError(path: string, component: string, cause: unknown): Error {
  if (cause instanceof RxrayError || cause instanceof Unavailable) return cause;
  if (isPassing(cause)) return new Unavailable(`${path} cannot be written now: ${messageOf(cause)}`);
  return new RxrayError('OUTPUT_UNWRITABLE', `${path} cannot be written: ${messageOf(cause)}`, {
    component,
    cause,
  });
}

/**
 * Whether the error may be temporary. Extended codes of SQLite (`SQLITE_BUSY_SNAPSHOT`) count as their primary code.
 */
function isPassing(cause: unknown): boolean {
  if (!(cause instanceof Error) || !('code' in cause)) return false;
  const code = String(cause.code);
  return PASSING.has(code) || PASSING.has(/^SQLITE_[A-Z]+/.exec(code)?.[0] ?? '');
}
