import type { Command } from 'commander';
import { addRunOptions, runFile, type RunFlags } from './run.js';

const EXAMPLES = `
Examples:
  $ rxray head ward.yaml                  sources, journal and sinks; \`rxray work\` runs the stages elsewhere
  $ rxray head ward.yaml --page 0.0.0.0:8484

The pipeline file needs a \`cluster:\`. Exit codes as for \`rxray run\`.`;

export function head(program: Command): void {
  addRunOptions(program.command('head'))
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .addHelpText('after', EXAMPLES)
    .action(async (file: string, flags: RunFlags) => {
      process.exitCode = await runFile(file, { ...flags, head: true });
    });
}
