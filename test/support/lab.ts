import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once, type EventEmitter } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';

/** The built command. */
export const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** nobody:nogroup. Root reads and writes whatever its permissions say. */
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];

/** Shortly before mocha's time limit, which does not say what the program was doing. */
const LATE_MS = 110_000;

/** A small graph: whatever lies in ./inbox is decoded, equalised and written to ./out.csv. */
export const GRAPH = `
version: 1
sources:
  - use: watch
    with: { path: ./inbox, settleMs: 100, scanMs: 500 }
stages:
  - use: decode
  - use: clahe
sinks:
  - use: csv
    with: { path: ./out.csv }
`;

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What the dead letter keeps of a film. */
export interface Letter {
  readonly id: string;
  readonly code: string;
  readonly message: string;
  readonly stage: string | null;
  /** The bytes of the copy; null where there is none. */
  readonly copy: Buffer | null;
}

/** Runs the built program with these arguments, to its end. */
export function rxray(...args: string[]): Promise<Result> {
  return launch([process.execPath, CLI, ...args]).ended();
}

function launch([program = '', ...args]: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  return new Running(
    spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      // Without colours, and without what the test runner leaves for its own children.
      env: { ...process.env, NODE_OPTIONS: '', FORCE_COLOR: '0', NO_COLOR: '1', ...env },
    }),
  );
}

/** A pipeline in a folder of its own, run by the built program as a user would. */
export class Lab {
  readonly #started: Running[] = [];

  private constructor(readonly folder: string) {}

  /** Writes `pipeline` (YAML) and the files, by their path in the folder. */
  static async open(pipeline: string, files: Record<string, string | Uint8Array> = {}): Promise<Lab> {
    const lab = new Lab(await mkdtemp(join(tmpdir(), 'rxray-bad-input-')));
    // So that nobody can write here, too.
    await chmod(lab.folder, 0o777);
    for (const [name, content] of Object.entries({ 'pipeline.yaml': pipeline, ...files })) {
      await lab.write(name, content);
    }
    return lab;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  async write(name: string, content: string | Uint8Array): Promise<void> {
    await mkdir(dirname(this.path(name)), { recursive: true });
    await writeFile(this.path(name), content);
  }

  /** Starts `rxray run`, as nobody when asked; `under`: by a command that takes another one. */
  start(
    args: readonly string[] = [],
    {
      asNobody = false,
      env = {},
      under = [],
    }: { asNobody?: boolean; env?: NodeJS.ProcessEnv; under?: readonly string[] } = {},
  ): Running {
    const command = [...under, process.execPath, CLI, 'run', this.path('pipeline.yaml'), ...args];
    const running = launch(asNobody && process.getuid?.() === 0 ? [...NOBODY, ...command] : command, env);
    this.#started.push(running);
    return running;
  }

  /** `rxray run --once`, to its end. */
  run(args: readonly string[] = [], user: { asNobody?: boolean } = {}): Promise<Result> {
    return this.start(['--once', ...args], user).ended();
  }

  /** The `file` column of out.csv: the films that came through, sorted. */
  async delivered(): Promise<string[]> {
    const text = await readFile(this.path('out.csv'), 'utf8').catch(() => '');
    return parse<{ file: string }>(text, { columns: true, bom: true })
      .map(({ file }) => file)
      .sort();
  }

  /** What lies in the dead letter, by the name of the film. */
  async letters(): Promise<Map<string, Letter>> {
    const root = this.path('.rxray/deadletter');
    const ids = await readdir(root).catch(() => []);
    const letters = ids.map(async (id): Promise<[string, Letter]> => {
      const reason = JSON.parse(await readFile(join(root, id, 'reason.json'), 'utf8')) as Letter & {
        file: string;
      };
      const copy = (await readdir(join(root, id))).find((name) => name !== 'reason.json');
      return [
        reason.file,
        { ...reason, copy: copy === undefined ? null : await readFile(join(root, id, copy)) },
      ];
    });
    return new Map(await Promise.all(letters));
  }

  /** Ends what a failed test has left running, and removes the folder. */
  async close(): Promise<void> {
    await Promise.all(this.#started.map((running) => running.kill()));
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** A program under way. */
export class Running {
  #stdout = '';
  #stderr = '';
  readonly #closed: Promise<unknown>;

  constructor(private readonly child: ChildProcessByStdio<null, Readable, Readable>) {
    child.stdout.setEncoding('utf8').on('data', (text: string) => (this.#stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text));
    this.#closed = once(child, 'close');
  }

  /** Resolves when the condition holds; it is asked again after each output of the program, and every `everyMs`. */
  async until(condition: () => boolean | Promise<boolean>, everyMs = 200): Promise<void> {
    const late = performance.now() + LATE_MS;
    let told = false;
    while (!(await condition())) {
      if (!told && performance.now() > late) {
        told = true;
        console.log(`still waiting; the program has said: ${this.#stdout}${this.#stderr}`);
      }
      if (this.child.exitCode !== null) throw new Error(`ended too early: ${this.#stdout}${this.#stderr}`);
      const waiting = new AbortController();
      const event = (emitter: EventEmitter, name: string) => once(emitter, name, { signal: waiting.signal });
      await Promise.any([
        event(this.child.stdout, 'data'),
        event(this.child.stderr, 'data'),
        event(this.child, 'close'),
        setTimeout(everyMs, undefined, { signal: waiting.signal }),
      ]);
      waiting.abort();
    }
  }

  /** Waits until its output says so; resolves with what the pattern's first group matched. */
  async said(pattern: RegExp): Promise<string> {
    await this.until(() => pattern.test(this.#stdout + this.#stderr));
    return pattern.exec(this.#stdout + this.#stderr)?.[1] ?? '';
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Ctrl-C. */
  interrupt(): void {
    this.child.kill('SIGINT');
  }

  /** Has no effect on a program that has ended. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#closed;
  }

  async ended(): Promise<Result> {
    await this.#closed;
    return { code: this.child.exitCode, stdout: this.#stdout, stderr: this.#stderr };
  }
}
