import type { Bundle } from '../models/bundle.js';
import type { Interval } from '../models/wilson.js';

/** The user's description of the data. */
export interface About {
  readonly name: string;
  /** SPDX, of the data; {@link UNKNOWN} where it is not stated. */
  readonly license: string;
  /** Where they come from, and whom to credit; {@link NOT_STATED}. */
  readonly source: string;
  /** SPDX, of the weights. Absent: not stated. */
  readonly weights?: string | undefined;
  /** Limits of the model. */
  readonly limits: readonly string[];
}

/** The licence if none is stated. */
export const UNKNOWN = 'unknown';
/** The source of the data if none is stated. */
export const NOT_STATED = 'Not stated.';

/** Where data come from, in a sentence or two. */
export function originOf({ name, license, source }: Bundle['data']): string {
  const unstated = [
    ...(license === UNKNOWN ? ['licence'] : []),
    ...(source === NOT_STATED ? ['source'] : []),
  ].join(' and ');
  const stated = [name, ...(license === UNKNOWN ? [] : [license])].join(', ');
  const rest =
    unstated === ''
      ? ''
      : ` The ${unstated} of the films ${unstated.includes(' ') ? 'are' : 'is'} not stated.`;
  return `${stated}.${source === NOT_STATED ? '' : ` ${source}`}${rest}`;
}

/** `CC-BY-4.0`, or that none is stated. */
export function licenceOf(license: string): string {
  return license === UNKNOWN ? 'licence not stated' : license;
}

/** The model card, the README.md of the bundle. */
export function modelCard(bundle: Omit<Bundle, 'files'>, limits: readonly string[]): string {
  const { name, preprocessing, data, metrics } = bundle;
  const {
    history: _inTheBundle,
    encoderHistory: _too,
    members,
    command,
    generator,
    ...rest
  } = bundle.training;
  const commands = [(generator as { command?: unknown } | undefined)?.command, command].filter(
    (each) => typeof each === 'string',
  );
  const training = Array.isArray(members) ? { ...rest, members: members.map(withoutHistory) } : rest;
  const chain = preprocessing.map(({ id, use, with: settings }) =>
    `- \`${use}\`${id === undefined ? '' : ` (\`id: ${id}\`)`} ${inlineYaml(settings)}`.trimEnd(),
  );
  const counts = Object.entries(data.counts).map(
    ([split, classes]) =>
      `- ${split}: ${Object.entries(classes)
        .map(([label, films]) => `${films} ${label}`)
        .join(', ')}`,
  );
  return [
    `# ${name}`,
    '',
    purposeOf(bundle),
    '',
    '**Not a medical device.** It must not be used to diagnose or treat anybody.',
    '',
    '## Intended use',
    'Research and teaching: trying methods and pipelines on films similar to the training films.',
    '',
    '## Limits',
    ...(limits.length === 0 ? [NOT_STATED] : limits.map((limit) => `- ${limit}`)),
    '',
    '## Figures on the validation films',
    `${choseEpoch(training) ? 'These films also selected the epoch, so the figures are somewhat too good. ' : ''}Intervals are 95 % (bootstrap over films).`,
    '',
    ...metricLines(metrics),
    ...calibrationLines(bundle),
    '',
    '## Data',
    originOf(data),
    '',
    ...counts,
    '',
    data.patients === undefined
      ? 'The patients of the films are not known: a patient may be in both splits, which makes the figures too good.'
      : `All films of a patient are in one split; there are ${data.patients} patients.`,
    '',
    `Fingerprint: \`${data.fingerprint}\`.`,
    '',
    '## Preprocessing',
    'The stages before the model, identical in training and serving:',
    '',
    ...chain,
    '',
    '## Training',
    `rxray ${bundle.rxray}, ${bundle.createdAt}. Weights: ${licenceOf(bundle.license)}.`,
    '',
    ...(commands.length > 1
      ? ['The first command trained the generator and the discriminator, the second the rest.', '']
      : []),
    ...(commands.length > 0 ? ['```', ...commands, '```', ''] : []),
    '```json',
    JSON.stringify({ architecture: bundle.architecture, ...training }, null, 2),
    '```',
    '',
  ].join('\n');
}

/** The card of a model that rxray has not trained; `what` is its first sentence. */
export function importedCard({ name, license, data }: Omit<Bundle, 'files'>, what: string): string {
  return [
    `# ${name}`,
    '',
    what,
    '',
    '**Not a medical device.** It must not be used to diagnose or treat anybody.',
    '',
    `Source: ${data.source} Weights: ${licenceOf(license)}. Its training data and performance are unknown; \`rxray evaluate\` measures it on your own films.`,
    '',
  ].join('\n');
}

/** Whether the validation films selected the epoch of the training, or of one of its members. */
function choseEpoch({ bestEpoch, members }: Readonly<Record<string, unknown>>): boolean {
  if (bestEpoch !== undefined) return true;
  return Array.isArray(members) && members.some((member) => choseEpoch(member as Record<string, unknown>));
}

function withoutHistory(training: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { history: _inTheBundle, ...rest } = training;
  return rest;
}

/** The calibration and the threshold. */
function calibrationLines({ calibration }: Pick<Bundle, 'calibration'>): string[] {
  if (calibration === undefined) return [];
  const { temperature, shifts, ece, binary } = calibration;
  const versions = shifts === undefined ? '' : ` and ${shifts} altered versions of each, taken together`;
  const lines = [
    '',
    `Fitted on these films${versions}: a temperature of ${figure(temperature)}` +
      (ece === undefined
        ? '.'
        : `, which brings the expected calibration error from ${figure(ece.before)} to ${figure(ece.after)}.`),
  ];
  if (binary?.plateau !== undefined && binary.balancedAccuracy !== undefined) {
    lines.push(
      `A film counts as abnormal where 1 − P(${binary.normal}) is above ${figure(binary.threshold)} (balanced accuracy ` +
        `${figure(binary.balancedAccuracy)}). Thresholds between ${figure(binary.plateau[0])} and ${figure(binary.plateau[1])} are ` +
        'equally good within the uncertainty of this number of films; the one chosen is three quarters up that range, because ' +
        'a network is usually overconfident about abnormal films from elsewhere.',
    );
  }
  return lines;
}

function purposeOf({ kind, input, labels, training }: Omit<Bundle, 'files'>): string {
  const films = `${input.width}×${input.height} films`;
  if (kind === 'classifier') return `A classifier of ${films}: ${labels.join(', ')}.`;
  if (kind === 'segmenter') return `A U-Net for ${films}: it segments one structure.`;
  if (kind === 'detector') return `A RetinaNet for ${films}: it detects boxes of ${labels.join(', ')}.`;
  if (kind === 'anogan') {
    return `An AnoGAN for ${films}, trained on normal films only: its score is the distance of a film from them.`;
  }
  const memory = `A memory of normal patches for ${films} (PatchCore): its score is the distance of a film's patches from them.`;
  return training.supervised === true
    ? `${memory} **Supervised**: its features come from a classifier that was also trained on abnormal films.`
    : `${memory} Its features come from a network trained on normal films only.`;
}

/** A bundle's figures as Markdown. */
export function metricLines(metrics: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(metrics).flatMap(([name, value]) => {
    if (typeof value === 'number') return [`- ${name}: ${figure(value)}`];
    if (isInterval(value)) return [`- ${name}: ${interval(value)}`];
    if (isFigures(value)) {
      return metricLines(
        Object.fromEntries(Object.entries(value).map(([figure, of]) => [`${name}: ${figure}`, of])),
      );
    }
    if (name === 'classes') {
      const classes = value as Record<string, { recall: number | null; auroc: Interval | null }>;
      return Object.entries(classes).map(
        ([label, { recall, auroc }]) =>
          `- ${label}: recall ${recall === null ? '–' : figure(recall)}, AUROC against the rest ${auroc === null ? '–' : interval(auroc)}`,
      );
    }
    if (name === 'confusionMatrix') {
      const { order, counts } = value as { order: string[]; counts: number[][] };
      return [
        '',
        `| true ↓ predicted → | ${order.join(' | ')} |`,
        `|---|${order.map(() => '---').join('|')}|`,
        ...counts.map((row, i) => `| ${order[i] ?? ''} | ${row.join(' | ')} |`),
      ];
    }
    return [];
  });
}

/** Figures of one of several methods. */
function isFigures(value: unknown): value is Record<string, Interval | number> {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every((figure) => typeof figure === 'number' || isInterval(figure)) &&
    !isInterval(value)
  );
}

function isInterval(value: unknown): value is Interval {
  return typeof value === 'object' && value !== null && 'low' in value && 'high' in value;
}

function interval({ value, low, high }: Interval): string {
  return `${figure(value)} (${figure(low)}–${figure(high)})`;
}

function figure(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(3);
}

function inlineYaml(settings: Readonly<Record<string, unknown>>): string {
  const entries = Object.entries(settings).map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  return entries.length === 0 ? '' : `\`{ ${entries.join(', ')} }\``;
}
