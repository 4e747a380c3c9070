import { resolve } from 'node:path';
import { InvalidArgumentError, Option, type Command } from 'commander';
import pc from 'picocolors';
import { buffer, debounceTime, filter } from 'rxjs';
import { formatIssues } from '../core/config/format.js';
import { loadPipeline } from '../core/config/load.js';
import type { Issue, Pipeline } from '../core/config/pipeline.js';
import { exitCodeOf, messageOf, RxrayError } from '../core/errors.js';
import { CreateError } from '../core/run/create.js';
import { parsePart, type Part } from '../core/part.js';
import { printable, printableLines } from '../core/printable.js';
import type { Log } from '../core/plugin.js';
import type { Unread } from '../core/run/generation.js';
import type { Settled } from '../core/flow/settled.js';
import { startPipeline, type Already, type PipelineRun, type RunOptions, type Summary } from '../core/run.js';
import type { Reloaded } from '../control/app.js';
import type { Listen } from '../control/serve.js';
import { LOG } from '../core/container.js';
import { Engine } from '../engine/engine.js';
import { builtInRegistry } from '../host/builtins.js';
import { EXIT } from './exit.js';
import { createHost } from '../host/host.js';
import { createLog } from './log.js';
import { Observer, PAGE, parseListen } from './observer.js';
import { openBrowser } from './open-browser.js';
import { onReload } from './reload.js';
import { RunProgress } from './run-progress.js';

export interface RunFlags {
  readonly once?: true;
  readonly again?: true;
  readonly failed?: true;
  readonly watchConfig?: true;
  readonly input?: string;
  readonly json?: true;
  readonly page?: Listen;
  /** The page is opened in a browser, if this is a terminal on a desktop. */
  readonly open?: boolean;
  readonly part?: Part;
  /** The stages run on workers. */
  readonly head?: true;
}

const EXAMPLES = `
Examples:
  $ rxray run                             run pipeline.yaml and watch its folder until Ctrl-C
  $ rxray run ward.yaml --once            end when everything in the folder is done
  $ rxray run --once --input ~/films      the same graph on another folder
  $ rxray run --once --input film.dcm     the same graph on one file
  $ rxray run --once --failed             try again what failed before
  $ rxray run --watch-config              reload pipeline.yaml whenever it is saved
  $ rxray run --once --json | jq .        one JSON object per film, and a summary
  $ rxray run --once --part 17/200        one slice of a backfill: part 17 of 200, counted from 0
  $ rxray run --page                      with a page at http://127.0.0.1:8484/
  $ rxray run --page 0.0.0.0:8484         reachable from other machines, with a token

SIGHUP reloads the pipeline file, too. In a terminal, which sends SIGHUP when it closes, this needs --watch-config.

Exit codes: 0 fine, 1 some films failed or wait for a sink, 2 usage or configuration, 3 fatal.`;

export function run(program: Command): void {
  addRunOptions(program.command('run'))
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .addOption(
      new Option(
        '--part <index/count>',
        'process one slice of the films, with its own journal and output files (needs --once)',
      ).argParser(partOf),
    )
    .addHelpText('after', EXAMPLES)
    .action(async (file: string, flags: RunFlags) => {
      if (flags.part !== undefined && flags.once === undefined) {
        throw new RxrayError('CONFIG_INVALID', '--part needs --once');
      }
      process.exitCode = await runFile(file, flags);
    });
}

export function addRunOptions(command: Command): Command {
  return command
    .option('--once', 'end when all files in the folder are done')
    .option('--again', 'process done films again')
    .option('--failed', 'process failed films again')
    .option('--watch-config', 'reload the pipeline file when it changes; a file with errors is ignored')
    .option(
      '--input <path>',
      'take this folder, or this one file, instead of the folder in the pipeline file',
      notEmpty,
    )
    .option('--json', 'print JSON lines: one per film, then a summary')
    .addOption(
      new Option('--page [host:port]', 'serve a web page (default: to this machine only)')
        .preset(PAGE)
        .argParser(parseListen),
    );
}

function notEmpty(value: string): string {
  if (value === '') throw new InvalidArgumentError('expected the path of a folder or a file, got nothing');
  return value;
}

function partOf(value: string): Part {
  const part = parsePart(value);
  if (part !== undefined) return part;
  throw new InvalidArgumentError(`expected two numbers such as 17/200, counted from 0/200, got "${value}"`);
}

/** Loads and runs a pipeline to its end, and ends the host with it; returns the exit code. */
export async function runFile(
  file: string,
  flags: RunFlags,
  host = createHost(createLog()),
): Promise<number> {
  let text: string | undefined;
  const report = (issues: readonly Issue[]): void => {
    if (issues.length === 0) return;
    process.stderr.write(`${formatIssues(issues, { file, text, color: pc.isColorSupported })}\n`);
  };
  try {
    const load = async (): Promise<{ pipeline?: Pipeline; issues: readonly Issue[] }> => {
      const {
        pipeline: loaded,
        issues,
        ...rest
      } = await loadPipeline(file, builtInRegistry(), {
        input: flags.input,
        part: flags.part,
      });
      ({ text } = rest);
      report(issues);
      if (loaded === undefined) return { issues };
      return { pipeline: flags.json ? withoutConsole(loaded) : loaded, issues };
    };
    const { pipeline } = await load();
    if (pipeline === undefined) return EXIT.usage;
    const reload = async (graph: PipelineRun): Promise<Reloaded> => {
      const refused = (issues: readonly Issue[]): Reloaded => ({
        taken: false,
        message: formatIssues(issues, { file, text, color: false }),
      });
      let outcome: Reloaded;
      try {
        const { pipeline: changed, issues } = await load();
        if (changed !== undefined) {
          if (flags.head !== undefined)
            (await import('../cluster/head.js')).checkHead(changed, pipeline.cluster);
          await graph.reload(changed);
          const message = `${file} was reloaded`;
          say(message);
          return { taken: true, message };
        }
        outcome = refused(issues);
      } catch (error) {
        if (error instanceof CreateError) {
          report(error.issues);
          outcome = refused(error.issues);
        } else {
          say(`${pc.red('refused:')} ${describe(error)}`);
          outcome = { taken: false, message: describe(error) };
        }
      }
      say('the graph continues unchanged');
      return outcome;
    };
    return await runAndPrint(pipeline, flags, host.get(LOG), {
      engine: () => host.getAsync(Engine),
      start: async (options) => {
        if (flags.head === undefined) return startPipeline(pipeline, host, options);
        const { checkHead, openHead } = await import('../cluster/head.js');
        const cluster = checkHead(pipeline);
        const log = host.get(LOG);
        return startPipeline(pipeline, host, {
          ...options,
          remote: (journal) => openHead(cluster, journal, log, pipeline.baseDir),
        });
      },
      reload,
    });
  } catch (error) {
    if (error instanceof CreateError) {
      report(error.issues);
      return EXIT.usage;
    }
    process.stderr.write(`${pc.red('rxray stopped:')} ${describe(error)}\n`);
    return exitCodeOf(error);
  } finally {
    await host.unbindAllAsync();
  }
}

/** Whether a bar can stay below what is printed: what reads our standard output may print to the same terminal. */
function hasTerminal({ sinks }: Pipeline, { json }: RunFlags): boolean {
  const printsResults = json === true || sinks.some(({ use }) => use === 'console');
  return process.stderr.isTTY && (process.stdout.isTTY || !printsResults);
}

/** With --json, standard output has only this command's lines. */
function withoutConsole(pipeline: Pipeline): Pipeline {
  return { ...pipeline, sinks: pipeline.sinks.filter(({ use }) => use !== 'console') };
}

interface Starter {
  /** For pictures that the page requests. */
  engine(): Promise<Engine>;
  start(options: RunOptions): Promise<PipelineRun>;
  reload(graph: PipelineRun): Promise<Reloaded>;
}

async function runAndPrint(
  pipeline: Pipeline,
  flags: RunFlags,
  log: Log,
  { start, reload, engine }: Starter,
): Promise<number> {
  const observer = new Observer(pipeline, log, engine);
  let stopReloading = (): void => undefined;
  try {
    const page = flags.page === undefined ? undefined : await observer.servePage(flags.page, say);
    const { once = false, again = false, failed = false, watchConfig = false } = flags;
    const graph = await start({ once, again, failed, monitor: observer.monitor });
    await observer.observe(graph, () => reload(graph));
    if (!once)
      stopReloading = onReload(pipeline.file, watchConfig, async () => {
        await reload(graph);
      });
    const print = flags.json ? printJson : process.env['RXRAY_LOG'] === undefined ? printText : printTo(log);
    print.started?.(pipeline, once);
    if (page !== undefined) {
      say(`the page is at ${page}${once ? '' : ' (close it with Ctrl-C)'}`);
      // Without the token: arguments of programs can be read by other users.
      if (flags.open === true && process.stderr.isTTY) openBrowser(page.replace(/#.*/, ''));
    }
    const progress =
      once && process.env['RXRAY_LOG'] === undefined
        ? new RunProgress(observer.monitor, hasTerminal(pipeline, flags))
        : undefined;
    return await attend(graph, pipeline, once, print, observer).finally(() => progress?.end());
  } finally {
    stopReloading();
    await observer.close();
  }
}

/** Prints the progress of a run until its end, and stops the run on a signal. */
async function attend(
  graph: PipelineRun,
  pipeline: Pipeline,
  once: boolean,
  print: Printer,
  observer: Observer,
): Promise<number> {
  const stop = (signal: NodeJS.Signals): void => {
    if (observer.stopping) {
      // The signal's default action ends the process: process.exit() would tear down threads that are in native code.
      process.off(signal, stop);
      process.kill(process.pid, signal);
      return;
    }
    observer.stopping = true;
    print.stopping();
    graph.stop();
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  graph.settled$.subscribe({ next: print.film, error: () => undefined });
  graph.unread$.subscribe((unread) => print.unread?.(unread));
  if (!once) {
    const quiet$ = graph.already$.pipe(debounceTime(500));
    graph.already$
      .pipe(
        buffer(quiet$),
        filter((counts) => counts.length > 0),
      )
      .subscribe((counts) => {
        print.already?.(counts.reduce(sum));
      });
  }
  try {
    const summary = await graph.finished;
    print.summary(summary, pipeline, once);
    const incomplete = once && summary.waiting + summary.unread > 0;
    return summary.failed > 0 || incomplete ? EXIT.filmsFailed : EXIT.fine;
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

interface Printer {
  started?(pipeline: Pipeline, once: boolean): void;
  film(film: Settled): void;
  already?(counts: Already): void;
  unread?(unread: Unread): void;
  stopping(): void;
  summary(summary: Summary, pipeline: Pipeline, once: boolean): void;
}

/** Text on standard error; the console sink has standard output. */
const printText: Printer = {
  started: ({ name, file }, once) => {
    if (!once) say(pc.dim(`${name} is running (${file}); stop it with Ctrl-C`));
  },
  film: ({ name, outcome, failure }) => {
    if (failure === undefined) return;
    if (outcome === 'skipped') {
      say(pc.dim(`- ${printable(name)}  skipped: ${printable(failure.message)} (${failure.code})`));
      return;
    }
    const where = failure.component === undefined ? '' : `${failure.component}: `;
    say(
      `${pc.red('✗')} ${printable(name)}  ${where}${printable(failure.message)} ${pc.dim(`(${failure.code})`)}`,
    );
  },
  already: sayAlready,
  unread: ({ name, reason }) => say(`${pc.red('✗')} ${printable(name)}  ${printable(reason)}`),
  stopping: sayStopping,
  summary: (summary, pipeline, once) => {
    const { stateDir } = pipeline;
    const { done, failed, skipped, waiting, unfinished, leftAlone, seconds } = summary;
    const { already, failedBefore, otherGraph, unread } = summary;
    if (once) sayAlready({ done: already, failed: failedBefore, otherGraph });
    if (unfinished > 0) say(`${films(unfinished)} did not finish in time: the next start processes them`);
    if (waiting > 0) {
      const [wait, them] = waiting === 1 ? ['waits', 'it'] : ['wait', 'them'];
      say(`${films(waiting)} ${wait} in the journal for a sink that is down: the next run delivers ${them}`);
    }
    if (skipped > 0) say(`${files(skipped)} skipped: not films`);
    if (leftAlone > 0)
      say(
        leftAlone === 1
          ? '1 file was left alone because it is not an image'
          : `${leftAlone} files were left alone because they are not images`,
      );
    if (done + failed === 0) {
      if (already + failedBefore + skipped + waiting + unfinished + unread === 0) {
        say(`no films found in ${foldersOf(pipeline)}`);
      }
      return;
    }
    say(pc.dim(`${films(done + failed)} in ${seconds.toFixed(1)} s`));
    if (failed > 0) say(`${films(failed)} failed: see ${stateDir}/deadletter for each file with its reason`);
  },
};

/** The `path` of each source, or its id where it has none. */
function foldersOf({ sources, baseDir }: Pipeline): string {
  return sources
    .map(({ id, settings }) => {
      const { path } = settings as { path?: unknown };
      return typeof path === 'string' ? resolve(baseDir, path) : id;
    })
    .join(', ');
}

const printJson: Printer = {
  film: ({ id, name, outcome, frame, failure }) => {
    const { code, component, message } = failure ?? {};
    write({
      event: 'film',
      id,
      file: name,
      outcome,
      ...(frame !== null && { meta: frame.meta, results: frame.results }),
      ...(failure !== undefined && { failure: { code, stage: component ?? null, message } }),
    });
  },
  unread: ({ name, reason }) => write({ event: 'unread', name, reason }),
  stopping: sayStopping,
  summary: (summary) => {
    write({ event: 'summary', ...summary });
  },
};

/** One log line per event, for log collectors (RXRAY_LOG is set): with the film's id, not its name. */
function printTo(log: Log): Printer {
  return {
    started: ({ name, hash }) => log.info({ pipeline: name, graph: hash }, 'running'),
    film: ({ id, name, outcome, failure, origin }) => {
      const seconds = (Date.now() - Date.parse(origin.receivedAt)) / 1000;
      if (failure === undefined) {
        log.info({ film: id, outcome, seconds }, 'film done');
      } else if (outcome === 'skipped') {
        log.info({ film: id, outcome, code: failure.code, reason: failure.message }, 'no film');
      } else {
        const { code, component = null, message } = failure;
        log.warn({ film: id, outcome, code, stage: component, seconds }, 'film failed');
        log.debug({ film: id, message }, 'why it failed');
      }
      log.debug({ film: id, file: name }, 'its name');
    },
    already: (counts) => log.info({ ...counts }, 'settled before this run'),
    stopping: () => log.info({}, 'stopping'),
    summary: (summary) => log.info({ ...summary }, 'ended'),
  };
}

function sayStopping(): void {
  say('\nstopping: finishing films in flight (Ctrl-C again to quit at once)');
}

function sum(a: Already, b: Already): Already {
  return { done: a.done + b.done, failed: a.failed + b.failed, otherGraph: a.otherGraph + b.otherGraph };
}

function sayAlready({ done, failed, otherGraph }: Already): void {
  const version = otherGraph === 0 ? '' : ` (${String(otherGraph)} by another version of this graph)`;
  const parts = [
    ...(done > 0 ? [`${films(done)} ${done === 1 ? 'is' : 'are'} already done${version}`] : []),
    ...(failed > 0
      ? [`${films(failed)} failed before and ${failed === 1 ? 'is' : 'are'} in the dead letter`]
      : []),
  ];
  if (parts.length === 0) return;
  const [option, again] = done > 0 ? ['--again', 'processes'] : ['--failed', 'tries'];
  say(`${parts.join(', ')}; ${option} ${again} ${done + failed === 1 ? 'it' : 'them'} anew`);
}

function films(count: number): string {
  return count === 1 ? '1 film' : `${String(count)} films`;
}

function files(count: number): string {
  return count === 1 ? '1 file' : `${String(count)} files`;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Pixels (residual maps, reconstructions) are left out. */
function write(event: object): void {
  process.stdout.write(
    `${JSON.stringify(event, (_, value: unknown) => (ArrayBuffer.isView(value) ? undefined : value))}\n`,
  );
}

function describe(error: unknown): string {
  return printableLines(error instanceof RxrayError ? `${error.message} (${error.code})` : messageOf(error));
}
