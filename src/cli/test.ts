import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, extname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { watch } from 'chokidar';
import type { Command } from 'commander';
import pc from 'picocolors';
import { debounceTime, fromEvent, Observable, startWith, switchMap } from 'rxjs';
import { formatIssues } from '../core/config/format.js';
import { loadPipeline } from '../core/config/load.js';
import type { Issue, Pipeline } from '../core/config/pipeline.js';
import { messageOf } from '../core/errors.js';
import { CreateError } from '../core/run/create.js';
import { runFilms, type Mock, type TestedFilm } from '../testing/graph.js';
import { faultsOf, parseGraphSpec, type GraphCase, type GraphSpec } from '../testing/graph-spec.js';
import { builtInRegistry } from '../host/builtins.js';
import { EXIT } from './exit.js';
import { createHost } from '../host/host.js';
import { createLog } from './log.js';

const EXAMPLES = `
A file of tests:
  pipeline: pipeline.yaml
  tests:
    - name: an opacity is flagged
      film: films/opacity.png
      expect:
        results.classes.label: bacterial
        results.anomaly.percentile: { above: 95 }
    - name: suspicious films ring the alarm
      film: films/normal.png
      mock: { anomaly: { kind: anomaly, percentile: 99.5 } }
      sinks: [csv, alarm]
    - film: films/truncated.png
      fails: { stage: decode, code: FRAME_DAMAGED }

Examples:
  $ rxray test                          run the tests in pipeline.test.yaml
  $ rxray test ward.test.yaml --watch   run again when the graph, a film or a plugin changes
  $ rxray test denoise.test.ts          tests of a plugin's own, with node:test and rxray/testing

Exit codes: 0 all passed, 1 some failed, 2 the tests or the graph have errors.`;

interface TestFlags {
  readonly watch?: true;
  readonly json?: true;
}

export function test(program: Command): void {
  program
    .command('test')
    .argument(
      '[tests]',
      'the file of tests: .yaml for a graph, .ts or .js for a plugin',
      'pipeline.test.yaml',
    )
    .option('--watch', 'run again when a file changes')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (file: string, flags: TestFlags) => {
      if (!existsSync(file)) {
        process.stderr.write(
          `there is no file ${file}: expected tests of a graph (.yaml) or of a plugin (.ts, .js)\n`,
        );
        process.exitCode = EXIT.usage;
      } else if (flags.watch) await testAgainAndAgain(file);
      else if (/\.[cm]?[jt]s$/.test(file)) process.exitCode = await testPlugin(file);
      else process.exitCode = await testFile(file, flags);
    });
}

interface TestResult {
  readonly name: string;
  readonly film: string;
  readonly faults: readonly string[];
}

/** Runs a file of tests and prints the results; returns the exit code. */
export async function testFile(file: string, { json }: TestFlags = {}): Promise<number> {
  const started = performance.now();
  const spec = await readSpec(file);
  if (spec === undefined) return EXIT.usage;
  const folder = dirname(resolve(file));
  const { pipeline, complain } = await load(spec, folder);
  if (pipeline === undefined) return EXIT.usage;

  const unknown = new Set(spec.tests.flatMap(({ mock }) => Object.keys(mock)));
  for (const { id } of pipeline.stages) unknown.delete(id);
  if (unknown.size > 0) {
    const known = pipeline.stages.map(({ id }) => id).join(', ');
    process.stderr.write(
      `${file}: there is no stage "${[...unknown].join('", "')}" to mock, only ${known}\n`,
    );
    return EXIT.usage;
  }

  let outcomes: TestResult[];
  try {
    outcomes = await testGraph(pipeline, spec.tests, folder);
  } catch (error) {
    if (!(error instanceof CreateError)) throw error;
    complain(error.issues);
    return EXIT.usage;
  }
  const failed = outcomes.filter(({ faults }) => faults.length > 0).length;
  const passed = outcomes.length - failed;
  if (json) {
    print(JSON.stringify({ pipeline: pipeline.file, passed, failed, tests: outcomes }, null, 2));
  } else {
    for (const { name, faults } of outcomes) {
      print(`${faults.length === 0 ? pc.green('✓') : pc.red('✗')} ${name}`);
      for (const fault of faults) print(`    ${fault}`);
    }
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    print(`${passed} passed, ${failed} failed ${pc.dim(`(${seconds} s)`)}`);
  }
  return failed > 0 ? EXIT.filmsFailed : EXIT.fine;
}

async function readSpec(file: string): Promise<GraphSpec | undefined> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    process.stderr.write(`${file} cannot be read: ${messageOf(error)}\n`);
  });
  if (text === undefined) return undefined;
  const { spec, issues } = parseGraphSpec(text, process.env);
  report(issues, file, text);
  if (spec === undefined) return undefined;
  const missing = spec.tests.filter(({ film }) => !existsSync(resolve(dirname(file), film)));
  if (missing.length === 0) return spec;
  for (const { film } of missing) process.stderr.write(`${file}: there is no film ${film}\n`);
  return undefined;
}

async function load(
  { pipeline: name, env }: GraphSpec,
  folder: string,
): Promise<{ pipeline: Pipeline | undefined; complain: (issues: readonly Issue[]) => void }> {
  const file = resolve(folder, name);
  // Plugins check their settings when they are created, not here: a mocked stage needs no model.
  const options = { env: { ...process.env, ...env }, lint: false };
  const { pipeline, issues, text } = await loadPipeline(file, builtInRegistry(), options);
  const complain = (found: readonly Issue[]): void => {
    report(found, file, text);
  };
  complain(issues);
  return { pipeline, complain };
}

function report(issues: readonly Issue[], file: string, text: string | undefined): void {
  if (issues.length === 0) return;
  process.stderr.write(`${formatIssues(issues, { file, text, color: pc.isColorSupported })}\n`);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Tests with the same mocks share one run of the graph, so that its models are loaded once. */
async function testGraph(
  pipeline: Pipeline,
  cases: readonly GraphCase[],
  folder: string,
): Promise<TestResult[]> {
  const groups = new Map<string, GraphCase[]>();
  for (const each of cases) {
    const key = JSON.stringify(each.mock);
    groups.set(key, [...(groups.get(key) ?? []), each]);
  }
  const tested = new Map<GraphCase, TestedFilm>();
  const host = createHost(createLog());
  try {
    for (const group of groups.values()) {
      const films = group.map(({ film, as }, index) => ({
        path: resolve(folder, film),
        // Two tests of one film give the graph two films.
        name: as ?? `${index}/${film}`,
      }));
      const results = await runFilms(pipeline, films, { host, mocks: mocksOf(group[0]?.mock ?? {}) });
      group.forEach((each, index) => tested.set(each, results[index] as TestedFilm));
    }
  } finally {
    await host.unbindAllAsync();
  }
  return cases.map((each) => ({
    name: each.name ?? each.film,
    film: each.film,
    faults: faultsOf(each, tested.get(each) as TestedFilm),
  }));
}

function mocksOf(mocks: GraphCase['mock']): Record<string, Mock> {
  return Object.fromEntries(
    Object.entries(mocks).map(([id, mock]): [string, Mock] => {
      return [
        id,
        typeof mock.error === 'string' ? { error: mock.error } : { result: mock as { kind: string } },
      ];
    }),
  );
}

/** Runs a module of tests with node:test in a child process; returns the exit code. */
async function testPlugin(file: string): Promise<number> {
  const runner = new URL(
    `../testing/plugin-tests${extname(fileURLToPath(import.meta.url))}`,
    import.meta.url,
  );
  const child = spawn(
    process.execPath,
    [
      ...process.execArgv,
      '--test-reporter=spec',
      '--test-reporter-destination=stdout',
      fileURLToPath(runner),
      file,
    ],
    { stdio: 'inherit' },
  );
  const [code] = (await once(child, 'close')) as [number | null];
  return code ?? EXIT.fatal;
}

/** A new process for each run, since imported modules are cached. */
async function testAgainAndAgain(file: string): Promise<void> {
  const watcher = watch(await readBy(file), { ignoreInitial: true });
  const runs = fromEvent(watcher, 'all')
    .pipe(
      debounceTime(100),
      startWith(null),
      switchMap(() => testInChild(file)),
    )
    .subscribe();
  await once(process, 'SIGINT');
  runs.unsubscribe();
  await watcher.close();
}

/** The files whose changes may change the tests' results. */
async function readBy(file: string): Promise<string[]> {
  const folder = dirname(resolve(file));
  const spec = /\.ya?ml$/.test(file) ? await readSpec(file) : undefined;
  // A plugin's tests import files beside them.
  if (spec === undefined) return [folder];
  const { pipeline } = await load(spec, folder);
  const plugins = [...(pipeline?.stages ?? []), ...(pipeline?.sinks ?? [])]
    .filter(({ use }) => use.startsWith('.'))
    .map(({ url }) => fileURLToPath(url));
  const films = spec.tests.map(({ film }) => resolve(folder, film));
  return [resolve(file), resolve(folder, spec.pipeline), ...plugins, ...films];
}

/** One run of the tests in a child process, which is killed when the subscription ends. */
function testInChild(file: string): Observable<never> {
  return new Observable((subscriber) => {
    const [, cli = ''] = process.argv;
    const child = spawn(process.execPath, [...process.execArgv, cli, 'test', file], { stdio: 'inherit' });
    child.once('error', (error) => {
      subscriber.error(error);
    });
    child.once('close', () => {
      print(pc.dim('waiting for changes; stop with Ctrl-C'));
      subscriber.complete();
    });
    return () => child.kill();
  });
}
