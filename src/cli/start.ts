import { mkdir, readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import pc from 'picocolors';
import { Engine } from '../engine/engine.js';
import { sampleFilms } from '../training/samples.js';
import { createHost } from '../host/host.js';
import { createLog } from './log.js';
import { addRunOptions, runFile, type RunFlags } from './run.js';
import { writeFilms } from './sample.js';

/** The folder of the package: pipeline.yaml, inbox/ and models/ lie in it. */
const HOME = fileURLToPath(new URL('../../', import.meta.url));
const GENERATOR = join(HOME, 'models', 'chest-anogan');
const SAMPLES = 6;
/** Any seed will do; the same one shows everybody the same first run. */
const SEED = 1;

/** `npm start`: the demo graph, with something in its inbox on the first day. */
export function start(program: Command): void {
  addRunOptions(program.command('start'))
    .addHelpText('after', '\nExample:\n  $ npm start -- --once    end when everything in ./inbox is done')
    .action(async (flags: RunFlags) => {
      const host = createHost(createLog());
      // A folder of the user's own gets no films of ours.
      if (flags.input === undefined) await fillInbox(join(HOME, 'inbox'), host.get(Engine));
      process.exitCode = await runFile(join(HOME, 'pipeline.yaml'), flags, host);
    });
}

/** Writes films of the shipped generator into the folder if there is nothing in it. */
async function fillInbox(inbox: string, engine: Engine): Promise<void> {
  await mkdir(inbox, { recursive: true });
  if ((await readdir(inbox)).length > 0) return;
  const films = await sampleFilms(engine, GENERATOR, SAMPLES, SEED, { opacities: true });
  await writeFilms(films, inbox);
  const where = relative(process.cwd(), inbox) || inbox;
  process.stderr.write(pc.dim(`${where} was empty, so rxray added ${String(SAMPLES)} synthetic films\n`));
}
