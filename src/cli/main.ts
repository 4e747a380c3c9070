#!/usr/bin/env node
import { Console } from 'node:console';
import { createRequire } from 'node:module';
import { Command } from 'commander';
import { exitCodeOf, messageOf } from '../core/errors.js';
import { EXIT } from './exit.js';
import { catchHangups, isInTerminal } from './hangup.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

interface Listed {
  readonly summary: string;
  readonly load: () => Promise<(program: Command) => void>;
}

/**
 * One module per command, loaded only when it is used. The summaries are here, so that the list of commands needs no
 * module.
 */
const COMMANDS: Readonly<Record<string, Listed>> = {
  run: { summary: 'Runs a pipeline.', load: async () => (await import('./run.js')).run },
  head: {
    summary: 'Runs a pipeline whose stages run on other machines.',
    load: async () => (await import('./head.js')).head,
  },
  work: {
    summary: 'Runs the stages of a pipeline for `rxray head`.',
    load: async () => (await import('./work.js')).work,
  },
  start: {
    summary: 'Runs the demo graph; puts sample films into an empty inbox.',
    load: async () => (await import('./start.js')).start,
  },
  lint: {
    summary: 'Checks a pipeline file and shows all errors and warnings.',
    load: async () => (await import('./lint.js')).lint,
  },
  test: {
    summary: 'Tests a graph (films and expected results; nothing is delivered) or a plugin.',
    load: async () => (await import('./test.js')).test,
  },
  graph: { summary: 'Draws a pipeline.', load: async () => (await import('./graph.js')).graph },
  plugins: {
    summary: 'Lists the plugins, or shows the options of one.',
    load: async () => (await import('./plugins.js')).plugins,
  },
  new: {
    summary: 'Creates a pipeline, a plugin or a plugin package with tests.',
    load: async () => (await import('./new.js')).newCommand,
  },
  sample: {
    summary: 'Generates synthetic films with an AnoGAN bundle.',
    load: async () => (await import('./sample.js')).sample,
  },
  phantoms: {
    summary: 'Draws chest films with opacities at known places, to train and to try detectors.',
    load: async () => (await import('./phantoms.js')).phantoms,
  },
  train: {
    summary: 'Trains a model on labelled films and writes its bundle.',
    load: async () => (await import('./train.js')).train,
  },
  import: {
    summary: 'Makes a bundle from any ONNX classifier or detector.',
    load: async () => (await import('./import.js')).importCommand,
  },
  evaluate: {
    summary: 'Evaluates a model on labelled films.',
    load: async () => (await import('./evaluate.js')).evaluate,
  },
  calibrate: {
    summary: "Sets a model's threshold from your own films.",
    load: async () => (await import('./calibrate.js')).calibrate,
  },
  verify: {
    summary: 'Checks that training, evaluation, a running graph and plain ONNX Runtime agree.',
    load: async () => (await import('./verify.js')).verify,
  },
  top: {
    summary: 'Shows rates and queues of a running graph, and its bottleneck.',
    load: async () => (await import('./top.js')).top,
  },
  tap: {
    summary: 'Shows the frames that come out of one entry of a running graph.',
    load: async () => (await import('./tap.js')).tap,
  },
  deadletter: {
    summary: 'Lists, shows, replays or discards films that failed.',
    load: async () => (await import('./deadletter.js')).deadletter,
  },
  reviews: {
    summary: 'Lists reviews of films, or exports them for train and evaluate.',
    load: async () => (await import('./reviews.js')).reviews,
  },
  shadow: {
    summary: "Compares shadow stages with the graph's verdicts.",
    load: async () => (await import('./shadow.js')).shadow,
  },
  report: {
    summary: 'Writes one HTML page about the last films: suspicious ones, failures, drift.',
    load: async () => (await import('./report.js')).report,
  },
  doctor: {
    summary: 'Checks this machine, and shows what is missing and how to get it.',
    load: async () => (await import('./doctor.js')).doctor,
  },
};

/** Node's exit code when it has nothing left to do and a promise at the top level is not settled. */
const UNSETTLED = 13;

const program = new Command('rxray')
  .description('A stream processor for medical images. Not a medical device.')
  .version(version)
  .exitOverride()
  .configureHelp({ showGlobalOptions: false })
  .addHelpText(
    'after',
    '\nEvery command has --help with examples. To start: rxray new pipeline ward; rxray doctor shows what is missing.',
  );

/** `rxray COMMAND …`, or `rxray help COMMAND`. */
const [first, second] = process.argv.slice(2);

if ((first === 'run' || first === 'start') && !isInTerminal()) catchHangups();

// A reader may stop reading (`| head`), or the log's disk may be full: the work continues.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') process.exitCode = EXIT.fatal;
  });
}

// Node would exit with 1, which means that some films failed, and which the systemd unit takes for a success.
process.on('uncaughtException', (error) => {
  process.stderr.write(`rxray stopped: ${error.stack ?? messageOf(error)}\n`);
  process.exit(EXIT.fatal);
});

const asked = first === 'help' ? second : first;

// Standard output is for the results of these: what plugins print goes to standard error.
if (['run', 'start', 'head', 'work', 'test', 'lint'].includes(asked ?? ''))
  globalThis.console = new Console(process.stderr);

try {
  process.cwd();
} catch {
  process.stderr.write('rxray stopped: the current folder does not exist any more: change to another one\n');
  process.exit(EXIT.usage);
}

let hasFinished = false;

// Neither a process.exit() of a plugin nor one that never finishes loading is a success of the command.
process.on('exit', (code) => {
  if (hasFinished || (code !== EXIT.fine && code !== UNSETTLED)) return;
  process.stderr.write('rxray stopped: a plugin called process.exit(), or never finished loading\n');
  process.exitCode = EXIT.fatal;
});

try {
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    if (name === asked) (await load())(program);
    const command = program.commands.find((each) => each.name() === name) ?? program.command(name);
    command.description(summary);
  }
  await program.parseAsync();
} catch (error) {
  const { code, exitCode } = error as { code?: string; exitCode?: number };
  if (code?.startsWith('commander.') === true) {
    process.exitCode = exitCode === 0 ? EXIT.fine : EXIT.usage;
  } else {
    process.stderr.write(`rxray stopped: ${messageOf(error)}\n`);
    process.exitCode = exitCodeOf(error);
  }
}
hasFinished = true;
