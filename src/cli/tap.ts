import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import pc from 'picocolors';
import { printable } from '../core/printable.js';
import { withRunning } from './control.js';
import { positive } from './numbers.js';

const EXAMPLES = `
Examples:
  $ rxray tap classes                      every frame that comes out of the stage "classes", until Ctrl-C
  $ rxray tap clahe --save ./look -n 5     the next five, with their pictures
  $ rxray tap csv ward.yaml --json | jq .  frames that the sink has taken, as JSON lines

tap connects to the running process over its socket in the state folder. Frames that come faster than they can
be shown are dropped and counted.`;

interface TapFlags {
  readonly save?: string;
  readonly number?: number;
  readonly json?: true;
}

/** A frame as the running process sends it. */
interface Tapped {
  readonly id: string;
  readonly file: string;
  readonly meta: object;
  readonly results: Readonly<Record<string, object>>;
  readonly image?: {
    readonly width: number;
    readonly height: number;
    readonly channels: number;
    readonly type: string;
  };
  /** Frames dropped so far. */
  readonly missed: number;
  /** Base64. */
  readonly png?: string;
}

export function tap(program: Command): void {
  program
    .command('tap')
    .argument('<id>', 'the source, stage or sink whose output to show')
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .option('--save <dir>', 'write a PNG and a JSON file of each frame there')
    .option('-n, --number <n>', 'end after so many frames', positive)
    .option('--json', 'print JSON lines, one per frame')
    .addHelpText('after', EXAMPLES)
    .action(async (id: string, file: string, { save, number, json }: TapFlags) => {
      process.exitCode = await withRunning(file, async (client) => {
        if (save !== undefined) await mkdir(save, { recursive: true });
        const path = `/api/tap/${encodeURIComponent(id)}${save === undefined ? '' : '?pictures'}`;
        let seen = 0;
        let missed = 0;
        for await (const { event, data } of client.events(path)) {
          if (event !== 'frame') continue;
          const { png, ...frame } = data as Tapped;
          if (save !== undefined) await keep(save, frame, png);
          if (json === true) process.stdout.write(`${JSON.stringify(frame)}\n`);
          else process.stdout.write(`${lineOf(frame)}\n`);
          if (frame.missed > missed) {
            process.stderr.write(pc.dim(`${frame.missed - missed} frames came too fast and were dropped\n`));
            missed = frame.missed;
          }
          seen += 1;
          if (seen === number) return;
        }
      });
    });
}

async function keep(dir: string, frame: Tapped, png: string | undefined): Promise<void> {
  await writeFile(join(dir, `${frame.id}.json`), `${JSON.stringify(frame, null, 2)}\n`);
  if (png !== undefined) await writeFile(join(dir, `${frame.id}.png`), Buffer.from(png, 'base64'));
}

function lineOf({ id, file, image, results }: Tapped): string {
  const pixels =
    image === undefined ? 'no pixels' : `${image.width}×${image.height}×${image.channels} ${image.type}`;
  const said = Object.entries(results).map(([stage, result]) => `${stage}: ${wordsOf(result)}`);
  return [pc.dim(id.slice(0, 12)), printable(file), pc.dim(pixels), ...said].join('  ');
}

/** `pneumonia 0.93 ⚑`, `percentile 99`. */
function wordsOf(result: object): string {
  const { label, probability, percentile, anomalyScore, abnormal } = result as Readonly<
    Record<string, unknown>
  >;
  const flag = abnormal === true ? ' ⚑' : '';
  if (typeof label === 'string') return `${label} ${Number(probability).toFixed(2)}${flag}`;
  if (typeof percentile === 'number') return `percentile ${percentile.toFixed(0)}${flag}`;
  if (typeof anomalyScore === 'number') return `score ${anomalyScore.toPrecision(4)}`;
  // Masks and lists are for `--json`.
  const plain = Object.entries(result).filter(([key, value]) => key !== 'kind' && typeof value !== 'object');
  return plain.map(([key, value]) => `${key} ${printable(String(value))}`).join(', ');
}
