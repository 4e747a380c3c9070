import pc from 'picocolors';
import stringWidth from 'string-width';
import { z } from 'zod';
import { messageOf, RxrayError } from '../core/errors.js';
import { isCode } from '../core/files.js';
import type { Anomaly, Classification, Detection, Frame } from '../core/frame.js';
import { NOTICE } from '../core/notice.js';
import { defineSink, type SinkInstance, type SinkServices } from '../core/plugin.js';
import { printable } from '../core/printable.js';
import { isShadow, verdictOf, type Verdict } from '../core/verdict.js';
import { plain } from './plain.js';

const options = z.strictObject({
  format: z
    .enum(['auto', 'text', 'json'])
    .default('auto')
    .describe(
      '`text`: a line of text; `json`: one JSON object per line; `auto`: text on a terminal, JSON in a pipe.',
    ),
});
type ConsoleOptions = z.output<typeof options>;

/** The output: `process.stdout`, or a stream of a test. */
export type Output = NodeJS.WritableStream & { readonly isTTY?: boolean; hasColors?(): boolean };

export default defineSink({
  name: 'console',
  summary: 'Prints one line per film: text on a terminal, JSON in a pipe.',
  options,
  examples: [
    { title: 'Text or JSON, as needed', with: {} },
    { title: 'Always JSON lines', with: { format: 'json' } },
  ],
  maxBatch: 64,
  create: (settings, services) => consoleSink(settings, services, process.stdout),
});

export function consoleSink(settings: ConsoleOptions, services: SinkServices, output: Output): SinkInstance {
  const asText = settings.format === 'text' || (settings.format === 'auto' && output.isTTY === true);
  const colours = pc.createColors(output.isTTY === true && output.hasColors?.() === true);
  const toLine = asText ? lineWriter(colours) : (frame: Frame) => JSON.stringify(plain(frame, true));
  let heading = asText ? `${colours.dim(NOTICE)}\n` : '';
  let readerGone = false;
  let disposed = false;

  // Without a listener, a closed pipe (`| head`) would end the program.
  const ignore = (): void => undefined;
  output.on('error', ignore);

  return {
    async write(frames) {
      if (disposed) throw new Error('the console sink is closed');
      if (readerGone || frames.length === 0) return;
      const text = heading + frames.map((frame) => `${toLine(frame)}\n`).join('');
      try {
        await print(output, text);
        heading = '';
      } catch (cause) {
        readerGone = isCode(cause, 'EPIPE');
        if (readerGone) return;
        throw new RxrayError('OUTPUT_UNWRITABLE', `the console cannot be written: ${messageOf(cause)}`, {
          component: services.id,
          cause,
        });
      }
    },
    dispose() {
      disposed = true;
      output.off('error', ignore);
    },
  };
}

/** Resolves when the stream has passed the text on. */
const print = (output: Output, text: string): Promise<void> =>
  new Promise((resolve, reject) => {
    output.write(text, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });

type Colours = ReturnType<typeof pc.createColors>;

const MIN_NAME_WIDTH = 24;
const MAX_NAME_WIDTH = 36;

/** Writes lines with aligned columns, as far as their widths are known. */
function lineWriter(colours: Colours): (frame: Frame) => string {
  const widths = [MIN_NAME_WIDTH];
  const aligned = (cell: string, column: number): string => {
    const width = stringWidth(cell);
    const widest = Math.max(widths[column] ?? 0, width);
    widths[column] = widest;
    return cell + ' '.repeat(widest - width);
  };
  return (frame) => {
    const results = Object.entries(frame.results).filter(([, result]) => !isShadow(result));
    const classes = results.filter(
      (entry): entry is [string, Classification] => entry[1].kind === 'classification',
    );
    const scores = results.filter((entry): entry is [string, Anomaly] => entry[1].kind === 'anomaly');
    const boxes = results.filter((entry): entry is [string, Detection] => entry[1].kind === 'detection');
    const verdict = verdictOf(frame.results);
    const name = fitted(printable(frame.origin.name), MAX_NAME_WIDTH);
    const cells = [
      `${markOf(verdict, colours)} ${verdict.abnormal === true ? colours.bold(name) : name}`,
      ...suspicionText(verdict, colours),
      ...classes.map(([id, result]) => titled(classes, id, '', colours) + classText(result, colours)),
      ...scores.map(([id, result]) => titled(scores, id, 'anomaly ', colours) + scoreText(result, colours)),
      ...boxes.map(([id, result]) => titled(boxes, id, 'found ', colours) + String(result.count)),
    ];
    const { image } = frame;
    if (cells.length === 1 && image) cells.push(colours.dim(`${image.width} × ${image.height}`));
    return cells.map(aligned).join('   ').trimEnd();
  };
}

/** ⚑ for an abnormal film, ✓ for one that no model calls abnormal, · if unknown. */
function markOf({ abnormal }: Verdict, { red, green, dim }: Colours): string {
  if (abnormal === null) return dim('·');
  return abnormal ? red('⚑') : green('✓');
}

/** `suspicion 0.97 (classes)`, with the stages that call the film abnormal. */
function suspicionText({ abnormal, suspicion, abnormalStages }: Verdict, colours: Colours): string[] {
  if (suspicion === null) return [];
  const { red, green, dim } = colours;
  const number = (abnormal === true ? red : green)(suspicion.toFixed(2));
  const stages = abnormalStages.length === 0 ? '' : ` (${abnormalStages.join(', ')})`;
  return [`${dim('suspicion')} ${number}${stages}`];
}

/** The stage's id if there are several of its kind, else the word for the kind. */
function titled(all: readonly unknown[], id: string, word: string, { dim }: Colours): string {
  return dim(all.length > 1 ? `${id} ` : word);
}

/** `normal 93 % (bacterial 5 · viral 2)`, or for findings that may occur together `Effusion 91 %, Mass 64 %` */
function classText(result: Classification, colours: Colours): string {
  const { bold, dim } = colours;
  const { label, probability, probabilities, positives } = result;
  if (positives !== undefined) return findingsText(positives, probabilities, colours);
  const labels = Object.keys(probabilities);
  const widest = Math.max(...[label, ...labels].map((text) => stringWidth(printable(text))));
  const others = Object.entries(probabilities)
    .filter(([other]) => other !== label)
    .sort(([, a], [, b]) => b - a)
    .slice(0, 3)
    .map(([other, p]) => `${printable(other)} ${percent(p)}`);
  const name = bold(printable(label)) + ' '.repeat(widest - stringWidth(printable(label)));
  const rest = others.length === 0 ? '' : dim(`  (${others.join(' · ')})`);
  return `${name} ${percent(probability).padStart(3)} %${rest}`;
}

/** `Effusion 91 %, Mass 64 %`, or `no finding  (Mass 12 · Effusion 3)` */
function findingsText(
  positives: readonly string[],
  probabilities: Classification['probabilities'],
  { bold, dim }: Colours,
): string {
  const ranked = (labels: readonly string[]): string[] =>
    labels.toSorted((a, b) => (probabilities[b] ?? 0) - (probabilities[a] ?? 0));
  const text = (label: string): string => `${printable(label)} ${percent(probabilities[label] ?? 0)}`;
  if (positives.length > 0) {
    return ranked(positives)
      .map((label) => `${bold(text(label))} %`)
      .join(', ');
  }
  const next = ranked(Object.keys(probabilities)).slice(0, 3).map(text);
  return `${bold('no finding')}${dim(`  (${next.join(' · ')})`)}`;
}

/** `0.213  P  41` */
function scoreText({ anomalyScore, percentile, abnormal }: Anomaly, colours: Colours): string {
  const score = anomalyScore.toFixed(3);
  if (percentile === null) return score;
  const colour = abnormal === true ? colours.red : colours.green;
  return `${score}  ${colour(`P ${String(Math.floor(percentile)).padStart(3)}`)}`;
}

/** Whole percent; 0 and 100 only for exact values. */
function percent(probability: number): string {
  if (probability > 0 && probability < 0.005) return '<1';
  if (probability < 1 && probability >= 0.995) return '>99';
  return String(Math.round(probability * 100));
}

/** Shortens the middle: films often differ at the end of their names. */
function fitted(text: string, width: number): string {
  if (stringWidth(text) <= width) return text;
  const characters = [...new Intl.Segmenter().segment(text)].map(({ segment }) => segment);
  const take = (from: readonly string[], room: number): string[] => {
    const taken: string[] = [];
    let used = 0;
    for (const character of from) {
      used += stringWidth(character);
      if (used > room) break;
      taken.push(character);
    }
    return taken;
  };
  const head = take(characters, Math.floor((width - 1) / 2));
  const tail = take(characters.toReversed(), Math.ceil((width - 1) / 2)).reverse();
  return `${head.join('')}…${tail.join('')}`;
}
