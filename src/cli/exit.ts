/** Exit codes of all commands. */
export const EXIT = {
  fine: 0,
  /** Some films failed; the run itself finished. */
  filmsFailed: 1,
  /** Wrong usage, or a pipeline file with errors. */
  usage: 2,
  /** The run could not go on. */
  fatal: 3,
} as const;
