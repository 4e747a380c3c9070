/**
 * A stage's judgement of a film. Any stage may put these fields into its result to take part in the film's verdict,
 * whatever the kind of the result and its labels.
 */
export interface Judgement {
  /** Whether the film is above the model's threshold; null or absent if unknown. */
  readonly abnormal?: boolean | null;
  /** 0–1, 0.5 at the model's threshold, so that models can be compared; null or absent if unknown. */
  readonly suspicion?: number | null;
  /** The value that is compared with `threshold`, in the model's own units. */
  readonly score?: number | null;
  readonly threshold?: number | null;
  /** Set by the host on results of a `shadow` stage: recorded and compared, but not part of the verdict. */
  readonly shadow?: boolean;
}

/** Whether a result is of a `shadow` stage. */
export function isShadow(result: unknown): boolean {
  return typeof result === 'object' && result !== null && 'shadow' in result && result.shadow === true;
}

/** Whether a film is suspicious, and by which stage. */
export interface Verdict {
  /** Whether any stage calls the film abnormal; null if unknown. */
  readonly abnormal: boolean | null;
  /** The highest suspicion, 0–1; 0.5 at the threshold. Null if unknown. */
  readonly suspicion: number | null;
  /** The stage with that suspicion, its score, and its threshold in the same units. */
  readonly stage: string | null;
  readonly score: number | null;
  readonly threshold: number | null;
  /** Every stage that calls the film abnormal, in the order of the graph. */
  readonly abnormalStages: readonly string[];
}

/**
 * Joins the judgements of the stages to the film's verdict. A stage that calls the film abnormal comes before one that
 * does not, the more suspicious before the less. Results of shadow stages are left out. `results`: by stage id; values
 * other than plain objects are ignored.
 */
export function verdictOf(results: Readonly<Record<string, unknown>>): Verdict {
  const judged = Object.entries(results).flatMap(([stage, result]) => {
    if (typeof result !== 'object' || result === null) return [];
    const { abnormal, suspicion, score, threshold } = result as Record<keyof Judgement, unknown>;
    if (isShadow(result) || (typeof abnormal !== 'boolean' && !isNumber(suspicion))) return [];
    return [
      {
        stage,
        abnormal: typeof abnormal === 'boolean' ? abnormal : null,
        suspicion: isNumber(suspicion) ? Math.min(1, Math.max(0, suspicion)) : null,
        score: isNumber(score) ? score : null,
        threshold: isNumber(threshold) ? threshold : null,
      },
    ];
  });
  const abnormalStages = judged.filter(({ abnormal }) => abnormal === true).map(({ stage }) => stage);
  const [first] = judged.toSorted(
    (a, b) =>
      Number(b.abnormal === true) - Number(a.abnormal === true) || (b.suspicion ?? -1) - (a.suspicion ?? -1),
  );
  if (first === undefined) return UNJUDGED;
  const isKnown = judged.some(({ abnormal }) => abnormal !== null);
  return { ...first, abnormal: isKnown ? abnormalStages.length > 0 : null, abnormalStages };
}

const UNJUDGED: Verdict = {
  ...{ abnormal: null, suspicion: null, stage: null, score: null, threshold: null },
  abnormalStages: [],
};

/**
 * A score of 0–1 on the scale of {@link Judgement.suspicion}: linear from 0 to 0.5 at the threshold, and from there to
 * 1.
 */
export function suspicionAt(score: number, threshold: number): number {
  const share =
    score <= threshold ? (0.5 * score) / threshold : 0.5 + (0.5 * (score - threshold)) / (1 - threshold);
  return Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0.5;
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}
