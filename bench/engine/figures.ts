/** A pair of times, as `--json` writes them. */
export interface Figure {
  readonly work: string;
  readonly oursMs: number;
  /** Our share of the machine's measured peak; null where operations are not counted. */
  readonly ofPeak: number | null;
  readonly peer: string;
  /** Null where the peer is missing. */
  readonly peerMs: number | null;
  /** Ours ÷ the peer's. */
  readonly ratio: number | null;
  /** What the ratio is to be at most; null without a goal. */
  readonly goal: number | null;
}

const HEAD = ['work', 'ours', 'of peak', 'peer', 'its time', 'ratio', 'goal', ''];

/** The figures as a table in Markdown; what stands in the row above is not said again. */
export function markdownTable(figures: readonly Figure[]): string {
  const rows = figures.map((figure, at) => {
    const { work, oursMs, ofPeak, peer, peerMs, ratio, goal } = figure;
    const first = figures[at - 1]?.work !== work;
    const met = goal === null || ratio === null ? '' : ratio <= goal ? 'met' : 'missed';
    return [
      first ? work : '',
      first ? milliseconds(oursMs) : '',
      first && ofPeak !== null ? `${(100 * ofPeak).toFixed(0)} %` : '',
      peer,
      peerMs === null ? 'missing' : milliseconds(peerMs),
      ratio?.toFixed(2) ?? '',
      goal === null ? '' : `≤ ${goal}`,
      met,
    ];
  });
  return [HEAD, HEAD.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function milliseconds(ms: number): string {
  return `${ms.toFixed(ms < 100 ? 1 : 0)} ms`;
}
