/** Films that settled in an interval. Films that were processed again count again. */
export interface Interval {
  /** Its start, in milliseconds since 1970. */
  readonly at: number;
  readonly done: number;
  readonly failed: number;
  readonly skipped: number;
  /** Those of `done` whose verdict is abnormal. */
  readonly suspicious: number;
}
