import { resolve } from 'node:path';
import type { Command } from 'commander';
import pc from 'picocolors';
import { formatIssues, inOrder } from '../core/config/format.js';
import { loadPipeline } from '../core/config/load.js';
import { builtInRegistry } from '../host/builtins.js';
import { modelsOf } from '../control/models.js';
import { calibrationInForce } from '../models/calibration-in-force.js';
import { EXIT } from './exit.js';

const EXAMPLES = `
Examples:
  $ rxray lint                        check pipeline.yaml
  $ rxray lint ward.yaml --json       the same for a program to read
  $ rxray lint ward.yaml --dry-run    the same, and the films that a run would take

Exit codes: 0 fine (there may be warnings), 2 errors.`;

export function lint(program: Command): void {
  program
    .command('lint')
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .option('--json', 'print one JSON object')
    .option('--dry-run', 'list the films that a run would take; nothing is read or written')
    .addHelpText('after', EXAMPLES)
    .action(async (file: string, flags: { json?: true; dryRun?: true }) => {
      const { text, code } = await lintFile(file, { ...flags, color: pc.isColorSupported });
      process.stdout.write(`${text}\n`);
      process.exitCode = code;
    });
}

/** What `rxray lint` prints, and its exit code. */
export async function lintFile(
  file: string,
  {
    json,
    dryRun: wantsFilms,
    color = false,
  }: { json?: true | undefined; dryRun?: true | undefined; color?: boolean } = {},
): Promise<{ text: string; code: number }> {
  const { pipeline, issues, text } = await loadPipeline(file, builtInRegistry());
  const code = pipeline === undefined ? EXIT.usage : EXIT.fine;
  const models = pipeline === undefined ? [] : await modelsOf(pipeline);
  const calibrations = models.flatMap(({ stage, bundle }) =>
    bundle.kind === 'segmenter' || bundle.kind === 'detector'
      ? []
      : [{ stage, calibration: calibrationInForce(bundle) }],
  );
  // With the journal and rxjs, which a check of the file alone does not need.
  const dry = wantsFilms && (await import('./dry-run.js'));
  const found = dry && pipeline !== undefined ? await dry.dryRun(pipeline) : undefined;
  if (json)
    return {
      text: JSON.stringify(
        {
          file: resolve(file),
          fine: pipeline !== undefined,
          issues: inOrder(issues),
          ...(calibrations.length > 0 && { calibrations }),
          ...found,
        },
        null,
        2,
      ),
      code,
    };

  const errors = issues.filter(({ severity }) => severity === 'error').length;
  const counts = [count(errors, 'error'), count(issues.length - errors, 'warning')].filter(
    (part) => part !== '',
  );
  const verdict =
    pipeline === undefined
      ? counts.join(', ')
      : `${file} is fine: ${[
          count(pipeline.sources.length, 'source'),
          count(pipeline.stages.length, 'stage'),
          count(pipeline.sinks.length, 'sink'),
          ...counts,
        ]
          .filter((part) => part !== '')
          .join(', ')}`;
  const details = issues.length === 0 ? '' : `${formatIssues(issues, { file, text, color })}\n\n`;
  const inForce = calibrations.map(({ stage, calibration }) => `\n${stage}: ${calibration}`).join('');
  const listed = dry && found !== undefined ? `\n${dry.dryRunText(found)}` : '';
  return { text: `${details}${verdict}${inForce}${listed}`, code };
}

function count(number: number, what: string): string {
  return number === 0 ? '' : `${number} ${what}${number === 1 ? '' : 's'}`;
}
