/** One worker, as it said last. */
export interface RemoteWorker {
  /** Its machine and process. */
  readonly name: string;
  /** Films that it has now, and how many it may have. */
  readonly films: number;
  readonly room: number;
  /** Films that it has finished, since it started. */
  readonly through: number;
  /** Films per second while it has films; null before it has finished one. */
  readonly filmsPerSecond: number | null;
}

/** The workers of a graph whose stages run on other machines. */
export interface RemoteStatus {
  readonly workers: readonly RemoteWorker[];
  /** Films that no worker has finished, and files that wait for admission. */
  readonly backlog: number;
  /** How many workers would finish the backlog in the time that the pipeline file gives. */
  readonly desired: number;
}
