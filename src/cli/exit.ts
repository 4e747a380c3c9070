/** What the process's exit code says, for every command. */
export const EXIT = {
  fine: 0,
  /** Some films failed; the run itself went on to its end. */
  filmsFailed: 1,
  /** Wrong usage, or a pipeline file with errors. */
  usage: 2,
  /** The run could not go on. */
  fatal: 3,
} as const;
