import type { Command } from 'commander';
import pc from 'picocolors';
import { formatIssues } from '../core/config/format.js';
import { loadPipeline } from '../core/config/load.js';
import { stateDirOf } from '../core/config/state-dir.js';
import { exitCodeOf, messageOf, RxrayError } from '../core/errors.js';
import { CreateError } from '../core/run/create.js';
import {
  discardEntry,
  listEntries,
  readEntry,
  requestReplay,
  type DeadLetterEntry,
} from '../core/dead-letter-entries.js';
import { printable } from '../core/printable.js';
import { startPipeline } from '../core/run.js';
import { builtInRegistry } from '../host/builtins.js';
import { EXIT } from './exit.js';
import { createHost } from '../host/host.js';
import { createLog } from './log.js';
import { columns } from './table.js';

interface Flags {
  readonly pipeline: string;
  readonly json?: true;
  readonly all?: true;
}

const EXAMPLES = `
Examples:
  $ rxray deadletter ls                     all failed films, latest first
  $ rxray deadletter ls ward.yaml           those of that pipeline
  $ rxray deadletter show 8c7ad8ad          one film, by its id or the start of the id
  $ rxray deadletter replay 8c7ad8ad        process it again
  $ rxray deadletter replay --all -p ward.yaml
  $ rxray deadletter discard 8c7ad8ad       delete the copy and the reason

If a process runs the graph, it does the replay; otherwise this command does. The film leaves the dead letter
when every sink has confirmed it. If it fails again, it stays there with the new reason.

Exit codes: 0 fine, 1 some films failed again or could not be replayed, 2 usage or configuration, 3 fatal.`;

export function deadletter(program: Command): void {
  const command = program.command('deadletter').addHelpText('after', EXAMPLES);
  const sub = (name: string, description: string): Command =>
    command
      .command(name)
      .description(description)
      .option('-p, --pipeline <file>', 'the pipeline file', 'pipeline.yaml')
      .option('--json', 'print JSON');

  sub('ls', 'Lists the films that failed.')
    .argument('[pipeline]', 'the pipeline file')
    .action((file: string | undefined, flags: Flags) =>
      guarded(async () => {
        const entries = await listEntries(await stateDirOf(file ?? flags.pipeline));
        print(flags.json ? JSON.stringify(entries, null, 2) : tableOf(entries));
        return EXIT.fine;
      }),
    );
  sub('show', 'Shows what happened to a film.')
    .argument('<id>', "the film's id, or the start of it")
    .action((id: string, flags: Flags) =>
      guarded(async () => {
        const entry = await readEntry(await stateDirOf(flags.pipeline), id);
        print(flags.json ? JSON.stringify(entry, null, 2) : pageOf(entry));
        return EXIT.fine;
      }),
    );
  sub('replay', 'Processes failed films again.')
    .argument('[ids...]', "the films' ids, or the start of them")
    .option('--all', 'all failed films')
    .action((ids: string[], flags: Flags) =>
      guarded(async () => {
        const chosen = await choose(ids, flags);
        if (chosen === undefined) return EXIT.usage;
        const { stateDir, entries } = chosen;
        for (const { id } of entries) await requestReplay(stateDir, id);
        return entries.length === 0 ? said(flags, 'the dead letter is empty') : replay(flags, chosen);
      }),
    );
  sub('discard', 'Deletes the copies and reasons of failed films, not the originals.')
    .argument('[ids...]', "the films' ids, or the start of them")
    .option('--all', 'all failed films')
    .action((ids: string[], flags: Flags) =>
      guarded(async () => {
        const chosen = await choose(ids, flags);
        if (chosen === undefined) return EXIT.usage;
        for (const { id } of chosen.entries) await discardEntry(chosen.stateDir, id);
        if (flags.json) print(JSON.stringify({ discarded: chosen.entries.map(({ id }) => id) }));
        else print(`${films(chosen.entries.length)} discarded`);
        return EXIT.fine;
      }),
    );
}

interface Chosen {
  readonly stateDir: string;
  readonly entries: readonly DeadLetterEntry[];
}

/** The named films; undefined, with a message, if none are named. */
async function choose(ids: readonly string[], { pipeline, all }: Flags): Promise<Chosen | undefined> {
  if ((all === true) === ids.length > 0) {
    process.stderr.write('expected the ids of films, or --all\n');
    return undefined;
  }
  const stateDir = await stateDirOf(pipeline);
  if (all === true) return { stateDir, entries: await listEntries(stateDir) };
  const entries = new Map<string, DeadLetterEntry>();
  for (const id of ids) {
    const entry = await readEntry(stateDir, id);
    entries.set(entry.id, entry);
  }
  return { stateDir, entries: [...entries.values()] };
}

/** Replays the requested films, unless a running process does, and names those that could not be replayed. */
async function replay(flags: Flags, { stateDir, entries }: Chosen): Promise<number> {
  const { pipeline: file } = flags;
  const { pipeline, issues, text } = await loadPipeline(file, builtInRegistry());
  if (pipeline === undefined) {
    process.stderr.write(`${formatIssues(issues, { file, text, color: pc.isColorSupported })}\n`);
    return EXIT.usage;
  }
  const host = createHost(createLog());
  try {
    const run = await startPipeline(pipeline, host, { once: true, replaysOnly: true });
    run.settled$.subscribe({
      next: ({ id, outcome, failure }) => {
        if (flags.json)
          print(
            JSON.stringify({ id, outcome, ...(failure && { code: failure.code, message: failure.message }) }),
          );
        else if (failure === undefined) print(`${pc.green('✓')} ${id.slice(0, 8)} is done`);
        else
          print(
            `${pc.red('✗')} ${id.slice(0, 8)} failed again: ${printable(failure.message)} (${failure.code})`,
          );
      },
      error: () => undefined,
    });
    const stop = (): void => {
      run.stop();
    };
    process.once('SIGINT', stop).once('SIGTERM', stop);
    const { failed } = await run.finished;
    const left = new Map((await listEntries(stateDir)).map((entry) => [entry.id, entry]));
    const same = entries.filter(({ id, at }) => left.get(id)?.at === at && left.get(id)?.replaying === false);
    for (const { id, code, source, message } of same) {
      const why = source === '' ? message : 'its source, or its file, is gone';
      if (flags.json) print(JSON.stringify({ id, outcome: 'not replayed', code, message: why }));
      else print(`${pc.red('✗')} ${id.slice(0, 8)} cannot be replayed: ${printable(why)} (${code})`);
    }
    return failed + same.length > 0 ? EXIT.filmsFailed : EXIT.fine;
  } catch (error) {
    if (error instanceof RxrayError && error.code === 'STATE_LOCKED') {
      return said(flags, 'the running process replays them');
    }
    if (!(error instanceof CreateError)) throw error;
    process.stderr.write(`${formatIssues(error.issues, { file, text, color: pc.isColorSupported })}\n`);
    return EXIT.usage;
  } finally {
    await host.unbindAllAsync();
  }
}

function tableOf(entries: readonly DeadLetterEntry[]): string {
  if (entries.length === 0) return 'the dead letter is empty';
  const rows = entries.map(({ id, at, code, stage, file, replaying }) => [
    id.slice(0, 8),
    at.slice(0, 19).replace('T', ' '),
    code,
    stage ?? '–',
    printable(file) + (replaying ? ' (replay requested)' : ''),
  ]);
  return columns([['ID', 'AT (UTC)', 'CODE', 'ENTRY', 'FILE'].map((text) => pc.dim(text)), ...rows]);
}

function pageOf(entry: DeadLetterEntry): string {
  const { id, file, source, code, stage, message, cause, graph, sha256, at, path, kept } = entry;
  const whereabouts =
    kept ?? `not copied: the file is still in its place${path === undefined ? '' : ` (${printable(path)})`}`;
  const lines: [string, string][] = [
    ['film', id],
    ['file', printable(file)],
    ['source', source],
    ['failed', at],
    ['code', code],
    ['entry', stage ?? '– (before the first stage)'],
    ['message', printable(message)],
    ...(cause === null ? [] : ([['cause', printable(cause)]] as [string, string][])),
    ['graph', graph.slice(0, 12)],
    ['sha-256', sha256 || '– (it was not read)'],
    ['copy', printable(whereabouts)],
  ];
  return columns(lines.map(([name, value]) => [pc.dim(name), value]));
}

function said(flags: Flags, message: string): number {
  print(flags.json ? JSON.stringify({ message }) : message);
  return EXIT.fine;
}

async function guarded(act: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await act();
  } catch (error) {
    const code = error instanceof RxrayError ? ` (${error.code})` : '';
    process.stderr.write(`${pc.red('✗')} ${messageOf(error)}${code}\n`);
    process.exitCode = exitCodeOf(error);
  }
}

function films(count: number): string {
  return count === 1 ? '1 film' : `${String(count)} films`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
