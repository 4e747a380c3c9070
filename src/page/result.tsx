import type { Anomaly, Classification, Detection, Result, Row } from './api.js';

export const isClassification = (result: Result): result is Classification =>
  result.kind === 'classification';
export const isAnomaly = (result: Result): result is Anomaly => result.kind === 'anomaly';
export const isDetection = (result: Result): result is Detection => result.kind === 'detection';

/** The results that count: those of shadow stages do not. */
export function shownIn(results: Row['results']): Result[] {
  return Object.values(results).filter((result) => !('shadow' in result && result.shadow));
}

/** The status of a film in a few words. */
export function answersOf({ outcome, failure, results, discarded }: Row): string {
  if (outcome !== 'done') return `${discarded === true ? 'discarded: ' : ''}${failure?.message ?? 'failed'}`;
  const all = shownIn(results);
  const boxes = all.filter(isDetection).map((each) => foundOf(each) || 'nothing found');
  return [...all.filter(isClassification).map(answerOf), ...boxes].join(', ') || 'done';
}

/** A name that is shortened in the middle where there is no room: films often differ at the end of their names. */
export function FileName({ name }: { readonly name: string }) {
  const tail = Math.min(12, Math.floor(name.length / 2));
  return (
    <span class="cut">
      <span>{name.slice(0, name.length - tail)}</span>
      <span>{name.slice(name.length - tail)}</span>
    </span>
  );
}

/** The film's suspicion, 0–1, and whether it is abnormal. */
export function Suspicion({ row: { verdict } }: { readonly row: Pick<Row, 'verdict'> }) {
  const { abnormal, suspicion, abnormalStages } = verdict;
  if (abnormal === null) return null;
  const title = abnormal ? `suspicious by ${abnormalStages.join(', ')}` : 'not suspicious';
  return (
    <span class={`suspicion ${abnormal ? 'high' : ''}`} title={title}>
      <span aria-hidden="true">{abnormal ? '⚑' : '✓'}</span>
      <span class="hidden">{title}</span> {suspicion?.toFixed(2)}
    </span>
  );
}

/** The label of a film, or its findings where there may be several. */
function answerOf({ label, probability, positives, probabilities }: Classification): string {
  if (positives === undefined) return `${wordsOf(label)} ${percent(probability)}`;
  const found = positives.map((finding) => `${wordsOf(finding)} ${percent(probabilities[finding] ?? 0)}`);
  return found.join(', ') || 'no finding';
}

/** A label or an id for people: `lung_opacity` → `lung opacity`. */
export function wordsOf(label: string): string {
  return label.replaceAll('_', ' ');
}

/** `opacity 92 %, opacity 61 %`. */
export function foundOf({ boxes }: Detection): string {
  return boxes.map(({ label, score }) => `${wordsOf(label)} ${percent(score)}`).join(', ');
}

/** One bar a class, the most probable first; findings above their threshold are marked. */
export function ClassBars({ result }: { readonly result: Classification }) {
  const classes = Object.entries(result.probabilities).sort(([, a], [, b]) => b - a);
  return (
    <ul class="bars">
      {classes.map(([label, probability]) => (
        <li key={label}>
          <span>
            {result.positives?.includes(label) === true ? <strong>{wordsOf(label)}</strong> : wordsOf(label)}
          </span>
          <meter min={0} max={1} value={probability} aria-label={wordsOf(label)} />
          <span class="number">{percent(probability)}</span>
        </li>
      ))}
    </ul>
  );
}

/** What a result is, for people; undefined for kinds of plugins that the page does not know. */
export function titleOf(result: Result): string | undefined {
  if (isClassification(result)) return result.positives === undefined ? 'Class' : 'Findings';
  return {
    anomaly: 'Difference from normal films',
    detection: 'Findings with their place',
    segmentation: 'Lungs',
  }[result.kind];
}

/** The share of normal films with a lower anomaly score. */
export function Percentile({ result }: { readonly result: Anomaly }) {
  const { percentile, anomalyScore } = result;
  if (percentile === null) return <span title="no reference">{anomalyScore.toPrecision(3)}</span>;
  return (
    <span
      class={`percentile ${result.abnormal === true ? 'high' : ''}`}
      title={`score ${anomalyScore.toPrecision(3)}`}
    >
      {Math.floor(percentile)}
      <small>/100</small>
    </span>
  );
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}

export function timeOf(iso: string): string {
  const date = new Date(iso);
  const today = date.toDateString() === new Date().toDateString();
  return today
    ? date.toLocaleTimeString()
    : date.toLocaleString([], { dateStyle: 'short', timeStyle: 'short' });
}
