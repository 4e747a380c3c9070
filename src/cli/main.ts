#!/usr/bin/env node
import { createRequire } from 'node:module';
import { Command } from 'commander';
import { messageOf } from '../core/errors.js';
import { EXIT } from './exit.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** One module a command, loaded only when it is the one that was asked for. */
const COMMANDS: Readonly<Record<string, () => Promise<(program: Command) => void>>> = {
  run: async () => (await import('./run.js')).run,
  start: async () => (await import('./start.js')).start,
  lint: async () => (await import('./lint.js')).lint,
  graph: async () => (await import('./graph.js')).graph,
  plugins: async () => (await import('./plugins.js')).plugins,
  train: async () => (await import('./train.js')).train,
  doctor: async () => (await import('./doctor.js')).doctor,
};

const program = new Command('rxray')
  .description('A stream processor for medical images. Not a medical device.')
  .version(version)
  .exitOverride()
  .configureHelp({ showGlobalOptions: false })
  .addHelpText('after', '\nEvery command has --help with examples. To begin: rxray doctor, then rxray run.');

const [asked] = process.argv.slice(2);
const wanted = asked !== undefined && Object.hasOwn(COMMANDS, asked) ? [asked] : Object.keys(COMMANDS);

try {
  for (const name of wanted) (await COMMANDS[name]?.())?.(program);
  await program.parseAsync();
} catch (error) {
  const { code, exitCode } = error as { code?: string; exitCode?: number };
  if (code?.startsWith('commander.') === true) {
    process.exitCode = exitCode === 0 ? EXIT.fine : EXIT.usage;
  } else {
    process.stderr.write(`rxray stopped: ${messageOf(error)}\n`);
    process.exitCode = EXIT.fatal;
  }
}
