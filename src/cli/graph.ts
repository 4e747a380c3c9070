import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, extname } from 'node:path';
import type { Command } from 'commander';
import pc from 'picocolors';
import { formatIssues } from '../core/config/format.js';
import { loadPipeline } from '../core/config/load.js';
import type { Live } from '../control/live.js';
import { builtInRegistry } from '../host/builtins.js';
import { withRunning } from './control.js';
import { drawingOf, toMermaid, toSvg } from './drawing.js';
import { EXIT } from './exit.js';

const EXAMPLES = `
Examples:
  $ rxray graph                        Mermaid, to paste into Markdown
  $ rxray graph -o graph.svg           a picture (.svg or .png)
  $ rxray graph ward.yaml -o ward.png
  $ rxray graph --live -o now.svg      with the current figures of the running graph
  $ rxray graph --json | jq .arrows    for a program to read`;

interface GraphFlags {
  readonly output?: string;
  readonly live?: true;
  readonly json?: true;
}

export function graph(program: Command): void {
  program
    .command('graph')
    .argument('[pipeline]', 'the pipeline file', 'pipeline.yaml')
    .option('-o, --output <file>', 'write a picture: FILE.svg or FILE.png')
    .option('--live', 'add frames per second, queues and the bottleneck of the running graph')
    .option('--json', 'print what the picture shows as one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (file: string, flags: GraphFlags) => {
      process.exitCode = await drawFile(file, flags);
    });
}

/** Draws to standard output, or to `output`; returns the exit code. */
export async function drawFile(file: string, { output, live, json }: GraphFlags = {}): Promise<number> {
  const ending = output === undefined ? undefined : extname(output).toLowerCase();
  if (ending !== undefined && ending !== '.svg' && ending !== '.png') {
    process.stderr.write(`--output: expected a file ending in .svg or .png, got ${output}\n`);
    return EXIT.usage;
  }
  const { pipeline, issues, text } = await loadPipeline(file, builtInRegistry(), { lint: false });
  if (pipeline === undefined) {
    process.stderr.write(`${formatIssues(issues, { file, text, color: pc.isColorSupported })}\n`);
    return EXIT.usage;
  }
  let running: Live | undefined;
  if (live) {
    const code = await withRunning(file, async (client) => {
      running = (await client.json('/api/graph')) as Live;
    });
    if (code !== EXIT.fine) return code;
  }
  const drawing = drawingOf(pipeline, running);
  if (output === undefined) {
    process.stdout.write(`${json ? JSON.stringify(drawing, null, 2) : toMermaid(drawing)}\n`);
    return EXIT.fine;
  }
  await mkdir(dirname(output), { recursive: true });
  await writeFile(output, ending === '.svg' ? toSvg(drawing) : await toPng(toSvg(drawing)));
  return EXIT.fine;
}

/** Twice the size of the SVG, for sharp screens. */
async function toPng(svg: string): Promise<Uint8Array> {
  const { default: sharp } = await import('sharp');
  return sharp(Buffer.from(svg), { density: 144 }).png().toBuffer();
}
