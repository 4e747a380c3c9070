import { cp, mkdir, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import pc from 'picocolors';
import { createHost } from '../host/host.js';
import { createLog } from './log.js';
import { PAGE, parseListen } from './observer.js';
import { addRunOptions, runFile, type RunFlags } from './run.js';

/** The folder of the package, with pipeline.yaml, inbox/, models/ and samples/. */
const HOME = fileURLToPath(new URL('../../', import.meta.url));

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
      if (flags.input === undefined) await fillInbox(join(HOME, 'inbox'));
      const page = flags.once === undefined && { page: { ...parseListen(PAGE), orAnother: true } };
      process.exitCode = await runFile(join(HOME, 'pipeline.yaml'), { ...page, ...flags }, host);
    });
}

/** Copies the synthetic films of the package to the folder if it is empty. */
async function fillInbox(inbox: string): Promise<void> {
  await mkdir(inbox, { recursive: true });
  if ((await readdir(inbox)).length > 0) return;
  const samples = join(HOME, 'samples');
  const films = (await readdir(samples)).filter((name) => name.endsWith('.jpg'));
  for (const film of films) await cp(join(samples, film), join(inbox, film));
  const where = relative(process.cwd(), inbox) || inbox;
  process.stderr.write(pc.dim(`${where} was empty, so rxray added ${films.length} synthetic films\n`));
}
