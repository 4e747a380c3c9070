import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { Option, type Command } from 'commander';
import pc from 'picocolors';
import sharp from 'sharp';
import { driftOf, modelsOf, type Drift } from '../control/models.js';
import { toPng } from '../control/pictures.js';
import { compareShadows, type ShadowComparison } from '../control/shadow.js';
import type { WorklistFilm } from '../control/worklist.js';
import { formatIssues } from '../core/config/format.js';
import { loadPipeline } from '../core/config/load.js';
import type { Pipeline } from '../core/config/pipeline.js';
import { messageOf } from '../core/errors.js';
import { isCode } from '../core/files.js';
import { NOTICE } from '../core/notice.js';
import { isShadow } from '../core/verdict.js';
import { builtInRegistry } from '../host/builtins.js';
import decodePlugin, { decode, type DecodeOptions } from '../plugins/decode.js';
import { table } from '../training/report/elements.js';
import { html, page, type Html } from '../training/report/html.js';
import { EXIT } from './exit.js';
import { createLog } from './log.js';
import { sinceOf } from './since.js';
import { whole } from './numbers.js';
import { lastFilms } from './worklist.js';

const EXAMPLES = `
Examples:
  $ rxray report                                         the films of the last 24 hours, as rxray-report.html
  $ rxray report ward.yaml --since 7d --out week.html
  $ rxray report --since 24h --out /srv/reports/today.html   once a day, from cron or a timer

One HTML file without scripts: films seen, suspicious ones with pictures, failures by their reason, drift, shadow stages.
It has names and pictures of films in it: treat it as you treat the films.`;

interface Flags {
  readonly since: number;
  readonly out: string;
  readonly pictures: number;
}

/** The longer side of a picture in pixels. */
const SIDE = 320;
/** Files that are named for one reason. */
const NAMED = 10;

export function report(program: Command): void {
  program
    .command('report')
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .addOption(
      new Option('--since <time>', 'the films since then: 90m, 24h, 7d, or a date')
        .argParser(sinceOf)
        .default(sinceOf('24h'), '24h'),
    )
    .option('--out <file>', 'the HTML file to write', 'rxray-report.html')
    .option('--pictures <n>', 'how many of the most suspicious films are shown', whole, 24)
    .addHelpText('after', EXAMPLES)
    .action(async (file: string, { since, out, pictures }: Flags) => {
      const { pipeline, issues, text } = await loadPipeline(file, builtInRegistry());
      if (pipeline === undefined) {
        process.stderr.write(`${formatIssues(issues, { file, text, color: pc.isColorSupported })}\n`);
        process.exitCode = EXIT.usage;
        return;
      }
      const films = await lastFilms(pipeline.stateDir, createLog(), since);
      const body = await reportOf(pipeline, films, since, pictures);
      await mkdir(dirname(resolve(out)), { recursive: true });
      await writeFile(out, page(`${pipeline.name}: report`, body), { mode: 0o600 });
      process.stdout.write(`${out}: ${films.length} ${films.length === 1 ? 'film' : 'films'}\n`);
    });
}

/** The report's body. `films`: oldest first; `since`: milliseconds since 1970; `pictures`: how many films are shown. */
export async function reportOf(
  pipeline: Pipeline,
  films: readonly WorklistFilm[],
  since: number,
  pictures: number,
): Promise<Html> {
  const suspicious = films
    .filter(({ verdict }) => verdict.abnormal === true)
    .sort((a, b) => (b.verdict.suspicion ?? 0) - (a.verdict.suspicion ?? 0));
  const shown: Html[] = [];
  // One after the other: each holds a decoded film.
  const own = pipeline.stages.find(({ plugin }) => plugin.name === decodePlugin.name);
  const settings = (own?.settings ?? decodePlugin.options.parse({})) as DecodeOptions;
  for (const film of suspicious.slice(0, pictures)) shown.push(await figureOf(film, settings));
  const count = (outcome: WorklistFilm['outcome']): number =>
    films.filter((film) => film.outcome === outcome).length;
  const tiles: [string, number][] = [
    ['films', films.length],
    ['suspicious', suspicious.length],
    ['failed', count('failed')],
    ['skipped: no pixels', count('skipped')],
  ];
  return html`
    <h1>${pipeline.name}</h1>
    <p class="muted">${timeOf(since)} to ${timeOf(Date.now())}</p>
    <p class="warning">${NOTICE}</p>
    <div class="tiles">
      ${tiles.map(([name, value]) => html`<div class="tile"><b>${value}</b><span>${name}</span></div>`)}
    </div>
    <h2>Suspicious films</h2>
    ${
      suspicious.length === 0
        ? html`<p class="note">No model calls a film of this time abnormal.</p>`
        : html`<div class="films">${shown}</div>`
    }
    ${
      suspicious.length > shown.length
        ? html`<p class="note">${suspicious.length - shown.length} more, less suspicious, are not shown.</p>`
        : null
    }
    ${failureSection(films)} ${driftSection(driftOf(await modelsOf(pipeline), films))}
    ${shadowSection(compareShadows(films))}
    <footer>rxray, ${new Date().toISOString()}</footer>
  `;
}

async function figureOf(film: WorklistFilm, settings: DecodeOptions): Promise<Html> {
  const { file, verdict, results, settledAt } = film;
  const { picture, reason } = await pictureOf(film, settings);
  const said = Object.entries(results).flatMap(([stage, result]) => {
    const { label, probability } = (result ?? {}) as { label?: unknown; probability?: unknown };
    if (typeof label !== 'string' || isShadow(result)) return [];
    return [
      `${stage}: ${label}${typeof probability === 'number' ? ` ${(100 * probability).toFixed(0)} %` : ''}`,
    ];
  });
  return html`<figure>
    ${picture === undefined ? html`<p class="note">${reason}</p>` : html`<img src="${picture}" alt="${file}" />`}
    <figcaption>
      ${file}<br />suspicion ${verdict.suspicion?.toFixed(2) ?? '–'}
      (${verdict.abnormalStages.join(', ')})${said.map((line) => html`<br />${line}`)}<br /><small
        >${settledAt.slice(0, 16).replace('T', ' ')}</small
      >
    </figcaption>
  </figure>`;
}

/** The film as it was decoded for the stages, small; or why it cannot be shown. */
async function pictureOf(
  { path, sha256 }: WorklistFilm,
  settings: DecodeOptions,
): Promise<{ picture?: string; reason: string }> {
  try {
    const bytes = await readFile(path);
    if (createHash('sha256').update(bytes).digest('hex') !== sha256) {
      return { reason: 'No picture: the file has changed since.' };
    }
    const { image } = await decode(bytes, { ...settings, attributes: [] });
    const small = await sharp(await toPng(image))
      .resize(SIDE, SIDE, { fit: 'inside' })
      .png()
      .toBuffer();
    return { picture: `data:image/png;base64,${small.toString('base64')}`, reason: '' };
  } catch (error) {
    const why = isCode(error, 'ENOENT') ? 'the file has been moved or deleted.' : messageOf(error);
    return { reason: `No picture: ${why}` };
  }
}

function failureSection(films: readonly WorklistFilm[]): Html {
  const reasons = new Map<string, WorklistFilm[]>();
  for (const film of films) {
    if (film.failure === null || film.outcome !== 'failed') continue;
    const { code, stage, message } = film.failure;
    const key = `${code}${stage === null ? '' : ` in ${stage}`}: ${message}`;
    reasons.set(key, [...(reasons.get(key) ?? []), film]);
  }
  if (reasons.size === 0)
    return html`<h2>Failures</h2>
      <p class="note">No film failed.</p>`;
  const rows = [...reasons]
    .sort(([, a], [, b]) => b.length - a.length)
    .map(
      ([reason, failed]) =>
        html`<tr>
          <td>${reason}</td>
          <td>${failed.length}</td>
          <td>
            ${failed
              .slice(0, NAMED)
              .map(({ file }) => file)
              .join(', ')}${failed.length > NAMED ? ', …' : ''}
          </td>
        </tr>`,
    );
  return html`
    <h2>Failures</h2>
    <p class="note">Each is in the dead letter: <code>rxray deadletter ls</code>.</p>
    ${table(['reason', 'films', 'files'], rows)}
  `;
}

function driftSection(drifts: readonly Drift[]): Html | null {
  if (drifts.length === 0) return null;
  const rows = drifts.map(
    ({ stage, model, of, films, psi, level }) =>
      html`<tr>
        <td>${stage}</td>
        <td>${model}</td>
        <td>${of}</td>
        <td>${films}</td>
        <td>${psi?.toFixed(3) ?? '–'}</td>
        <td>${level}</td>
      </tr>`,
  );
  return html`
    <h2>Drift</h2>
    <p class="note">
      How the films differ from those that each model was measured on: the population stability index (PSI),
      below 0.1 stable, from 0.25 on shifted. A hundred films are needed.
    </p>
    ${table(['stage', 'model', 'of', 'films', 'PSI', ''], rows)}
  `;
}

function shadowSection(compared: readonly ShadowComparison[]): Html | null {
  if (compared.length === 0) return null;
  const rows = compared.map(({ stage, films, verdict }) => {
    const { value, low, high } = verdict?.agreement ?? { value: NaN, low: NaN, high: NaN };
    const percent = (share: number): string => (100 * share).toFixed(1);
    return html`<tr>
      <td>${stage}</td>
      <td>${films}</td>
      <td>${verdict === null ? '–' : `${percent(value)} % (${percent(low)}–${percent(high)})`}</td>
      <td>${verdict?.onlyGraph ?? '–'}</td>
      <td>${verdict?.onlyShadow ?? '–'}</td>
    </tr>`;
  });
  return html`
    <h2>Shadow stages</h2>
    ${table(['stage', 'films', 'same verdict', 'only the graph says abnormal', 'only the shadow'], rows)}
  `;
}

function timeOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace('T', ' ') + ' UTC';
}
