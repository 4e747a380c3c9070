import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NOTICE } from '../../core/notice.js';
import type { Bundle } from '../../models/bundle.js';
import { licenceOf, originOf } from '../card.js';
import type { Evaluation } from '../evaluation/evaluate.js';
import type { Explanation } from '../evaluation/explain.js';
import { curveSection, embeddingSection, learningSection } from './curves.js';
import { explanationSection, mistakeSection } from './films.js';
import { html, page, type Html } from './html.js';
import { classCounts, sentence, tiles } from './summary.js';
import {
  baselineSection,
  confusionSection,
  groupSection,
  shiftSection,
  shortcutSection,
  unreadableSection,
} from './tables.js';

/** What the report shows besides the evaluation itself. */
export interface Findings {
  readonly evaluation: Evaluation;
  readonly bundle: Bundle;
  readonly explanation: Explanation;
  /** The command that repeats it. */
  readonly command: string;
  readonly rxray: string;
  /** Why the figures cannot be trusted, one sentence each. */
  readonly warnings: readonly string[];
}

/** Writes `report.html`, one self-contained page, and the same numbers as `report.json`. */
export async function writeReport(dir: string, findings: Findings, summary: object): Promise<void> {
  const { evaluation, explanation } = findings;
  const { gradCam, embeddings, ...left } = explanation;
  const json = {
    ...summary,
    groups: evaluation.groups,
    explained: {
      ...left,
      gradCam: gradCam?.films ?? [],
      embeddings: embeddings.map(({ name, films, points }) => ({ name, films, points })),
    },
  };
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'report.json'), `${JSON.stringify(json, null, 2)}\n`);
  await writeFile(
    join(dir, 'report.html'),
    page(`${findings.bundle.name}: evaluation`, await body(findings)),
  );
}

async function body(findings: Findings): Promise<Html> {
  const { evaluation, bundle, command, rxray, warnings } = findings;
  const { figures, split, bootstrap, unreadable } = evaluation;
  const curves = await curveSection(evaluation);
  const confusion = evaluation.kind === 'classifier' ? confusionSection(evaluation.figures) : null;
  return html`
    <h1>${bundle.name}</h1>
    <p class="muted">
      Evaluation on ${figures.n}
      films${split === 'all' ? '' : ` of the split “${split}”`}${
        unreadable.length === 0 ? '' : ` (${unreadable.length} could not be read)`
      },
      ${new Date().toISOString().slice(0, 10)}
    </p>
    <p class="warning">${NOTICE}</p>
    ${warnings.map((warning) => html`<p class="warning">${warning}</p>`)}
    <p class="lead">${sentence(evaluation)}</p>
    ${tiles(evaluation)} ${baselineSection(evaluation)} ${confusion} ${curves} ${shortcutSection(evaluation)}
    ${shiftSection(evaluation)} ${groupSection(evaluation)} ${await mistakeSection(findings)}
    ${await explanationSection(findings)} ${await embeddingSection(findings)} ${await learningSection(bundle)}
    ${unreadableSection(unreadable)}
    <h2>How this report was made</h2>
    <div class="card">
      <dl>
        <dt>Command</dt>
        <dd><code>${command}</code></dd>
        <dt>Model</dt>
        <dd>
          ${bundle.name}, ${bundle.kind}, made ${bundle.createdAt.slice(0, 10)}; weights:
          ${licenceOf(bundle.license)}
        </dd>
        <dt>Trained on</dt>
        <dd>${originOf(bundle.data)}</dd>
        <dt>Preprocessing</dt>
        <dd>
          ${bundle.preprocessing.map(({ use }) => use).join(' → ')},
          ${bundle.input.width}×${bundle.input.height}
        </dd>
        <dt>Intervals</dt>
        <dd>
          95 %, percentile bootstrap, ${bootstrap.resamples} samples of
          ${bootstrap.unit === 'patient' ? 'patients, each with all of their films' : 'films (the data name no patients, so the true intervals are wider)'},
          seed ${bootstrap.seed}
        </dd>
        <dt>Films</dt>
        <dd>${classCounts(evaluation)}</dd>
      </dl>
    </div>
    <footer>
      Made by rxray ${rxray}. The same figures are in report.json beside this page. This is not a medical
      device: do not use it for diagnosis or treatment.
    </footer>
  `;
}
