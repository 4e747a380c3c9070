import { mkdir, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import pc from 'picocolors';
import { Engine } from '../engine/engine.js';
import { sampleFilms } from '../training/samples.js';
import { createHost } from '../host/host.js';
import { createLog } from './log.js';
import { PAGE, parseListen } from './observer.js';
import { addRunOptions, runFile, type RunFlags } from './run.js';
import { writeFilms } from './sample.js';

/** The folder of the package, with pipeline.yaml, inbox/ and models/. */
const HOME = fileURLToPath(new URL('../../', import.meta.url));
const GENERATOR = join(HOME, 'models', 'chest-anogan');
const SAMPLES = 6;
/** A fixed seed, so that every first run shows the same films. */
const SEED = 1;

const EXAMPLES = `
Examples:
  $ npm start                 until Ctrl-C, with a page at http://127.0.0.1:8484/
  $ npm start -- --no-open    the same, without opening a browser
  $ npm start -- --once       end when everything in ./inbox is done`;

/** `npm start`: the demo graph with its page; an empty inbox gets synthetic films. */
export function start(program: Command): void {
  addRunOptions(program.command('start'))
    .option('--no-open', 'do not open the page in a browser')
    .addHelpText('after', EXAMPLES)
    .action(async (flags: RunFlags) => {
      const host = createHost(createLog());
      // A folder given with --input gets no films.
      if (flags.input === undefined) await fillInbox(join(HOME, 'inbox'), host.get(Engine));
      const page = flags.once === undefined && { page: { ...parseListen(PAGE), orAnother: true } };
      process.exitCode = await runFile(join(HOME, 'pipeline.yaml'), { ...page, ...flags }, host);
    });
}

/** Writes films of the shipped generator to the folder if it is empty. */
async function fillInbox(inbox: string, engine: Engine): Promise<void> {
  await mkdir(inbox, { recursive: true });
  if ((await readdir(inbox)).length > 0) return;
  const films = await sampleFilms(engine, GENERATOR, SAMPLES, SEED, { opacities: true });
  await writeFilms(films, inbox);
  const where = relative(process.cwd(), inbox) || inbox;
  process.stderr.write(pc.dim(`${where} was empty, so rxray added ${String(SAMPLES)} synthetic films\n`));
}
