import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, statfs } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { arch, availableParallelism, freemem, release, totalmem } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import pc from 'picocolors';
import semver from 'semver';
import { messageOf } from '../core/errors.js';
import { EXIT } from './exit.js';
import { columns } from './table.js';

/** One line of the report. A failure stops rxray from working; a warning costs speed or a feature. */
export interface Check {
  readonly name: string;
  readonly status: 'ok' | 'warning' | 'failure';
  readonly found: string;
  /** What to do about it. */
  readonly remedy?: string;
}

const require = createRequire(import.meta.url);

const NEEDED_MEMORY = 2 * 1024 ** 3;
const NEEDED_DISK = 1024 ** 3;
/** `watch` needs one inotify watch per folder, none for files; other programs of the user share the limit. */
const NEEDED_WATCHES = 8192;

const GPU_REMEDIES = {
  cuda: 'With an NVIDIA GPU and CUDA 13: bash scripts/cuda-provider.sh; with CUDA 12: ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild --ignore-scripts=false onnxruntime-node',
  webgpu: 'With a GPU: install its Vulkan driver (Linux) or update its driver (Windows, macOS).',
};

const SIGNS = { ok: pc.green('✓'), warning: pc.yellow('!'), failure: pc.red('✗') };

export function doctor(program: Command): void {
  program
    .command('doctor')
    .argument('[pipeline]', 'the pipeline file whose folder will hold .rxray/', 'pipeline.yaml')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', '\nExample:\n  $ rxray doctor --json | jq ".[] | select(.status != \\"ok\\")"')
    .action(async (pipeline: string, { json }: { json?: true }) => {
      const checks = await examine(dirname(resolve(pipeline)));
      console.log(json ? JSON.stringify(checks, null, 2) : report(checks));
      if (checks.some(({ status }) => status === 'failure')) process.exitCode = EXIT.fatal;
    });
}

/** Checks the machine for a pipeline file in `folder`. */
export async function examine(folder: string): Promise<Check[]> {
  return [
    node(),
    machine(),
    memory(),
    await library('Inference', 'onnxruntime-node', loads('onnxruntime-node')),
    ...(await devices()),
    await tensorflow(),
    await library('Decoding', 'sharp', libvips),
    await library('CLAHE, resize', 'opencv-wasm', equaliseSomething),
    await library('Journal', 'libsql', loads('libsql')),
    await watches(),
    await state(folder),
    await disk(folder),
  ];
}

function node(): Check {
  const { engines } = require('../../package.json') as { engines: { node: string } };
  const fits = semver.satisfies(process.version, engines.node);
  return {
    name: 'Node.js',
    status: fits ? 'ok' : 'failure',
    found: process.version,
    ...(!fits && { remedy: `Install Node.js ${engines.node}: https://nodejs.org` }),
  };
}

function machine(): Check {
  const cores = availableParallelism();
  return {
    name: 'Machine',
    status: 'ok',
    found: `${process.platform} ${release()}, ${arch()}, ${cores} cores`,
  };
}

function memory(): Check {
  const enough = totalmem() >= NEEDED_MEMORY;
  return {
    name: 'Memory',
    status: enough ? 'ok' : 'warning',
    found: `${gigabytes(totalmem())}, ${gigabytes(freemem())} of it free`,
    ...(!enough && { remedy: 'Lower `batch.size` and `concurrency` in the pipeline file.' }),
  };
}

/** Runs a native library once: an installed library may still not run on this machine. */
async function library(
  name: string,
  module: string,
  probe: () => Promise<string | undefined>,
): Promise<Check> {
  try {
    const detail = await probe();
    const found = `${module} ${versionOf(module)}`;
    return { name, status: 'ok', found: detail === undefined ? found : `${found}, ${detail}` };
  } catch (error) {
    return {
      name,
      status: 'failure',
      found: `${module} does not work: ${firstLine(messageOf(error))}`,
      remedy: 'Run `npm ci` on this machine: node_modules from another system does not work.',
    };
  }
}

async function devices(): Promise<Check[]> {
  const { probeDevices } = await import('../engine/index.js');
  const reports = await probeDevices();
  const chosen = reports.find(({ device, available }) => available && device !== 'cpu')?.device ?? 'cpu';
  const checks = reports.map(({ device, available, detail }): Check => ({
    name: `Device ${device}`,
    status: available ? 'ok' : 'warning',
    found: firstLine(detail),
    ...(!available && device !== 'cpu' && { remedy: GPU_REMEDIES[device] }),
  }));
  return [...checks, { name: 'Device auto', status: 'ok', found: `runs models on ${chosen}` }];
}

async function tensorflow(): Promise<Check> {
  const { TENSORFLOW_INSTALL } = await import('../engine/index.js');
  const found = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'].find(isInstalled);
  if (found !== undefined) return { name: 'TensorFlow', status: 'ok', found: `${found} ${versionOf(found)}` };
  return {
    name: 'TensorFlow',
    status: 'warning',
    found: 'not installed; only `runtime: tensorflow` needs it',
    remedy: TENSORFLOW_INSTALL,
  };
}

async function watches(): Promise<Check> {
  const name = 'File watching';
  if (process.platform !== 'linux') return { name, status: 'ok', found: `native on ${process.platform}` };
  const limit = Number(await readFile('/proc/sys/fs/inotify/max_user_watches', 'utf8'));
  const enough = limit >= NEEDED_WATCHES;
  return {
    name,
    status: enough ? 'ok' : 'warning',
    found: `inotify, up to ${limit.toLocaleString('en')} folders`,
    ...(!enough && { remedy: 'sudo sysctl -w fs.inotify.max_user_watches=524288' }),
  };
}

async function state(folder: string): Promise<Check> {
  const name = 'State folder';
  const path = join(folder, '.rxray');
  const existing = nearestExisting(path);
  try {
    // Permission bits do not show a read-only file system or a full quota.
    await rm(await mkdtemp(join(existing, '.rxray-doctor-')), { recursive: true });
    return { name, status: 'ok', found: `${path} can be written` };
  } catch (error) {
    return {
      name,
      status: 'failure',
      found: `${path} cannot be written: ${firstLine(messageOf(error))}`,
      remedy: 'Make the folder writable, or set `state:` in the pipeline file to another one.',
    };
  }
}

async function disk(folder: string): Promise<Check> {
  const { bavail, bsize } = await statfs(nearestExisting(folder));
  const free = bavail * bsize;
  const enough = free >= NEEDED_DISK;
  return {
    name: 'Free disk',
    status: enough ? 'ok' : 'warning',
    found: gigabytes(free),
    ...(!enough && { remedy: 'Free some space: failed films are kept in .rxray/deadletter.' }),
  };
}

function report(checks: readonly Check[]): string {
  return columns(
    checks.map(({ name, status, found, remedy }) => [
      SIGNS[status],
      name,
      remedy === undefined ? found : `${found}\n${pc.cyan(`→ ${remedy}`)}`,
    ]),
  );
}

function nearestExisting(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : nearestExisting(dirname(path));
}

function isInstalled(module: string): boolean {
  try {
    require.resolve(module);
    return true;
  } catch {
    return false;
  }
}

/** Read from the file: not every package exports its package.json. */
function versionOf(module: string): string {
  const file = (require.resolve.paths(module) ?? [])
    .map((folder) => join(folder, module, 'package.json'))
    .find((path) => existsSync(path));
  if (file === undefined) return '';
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function loads(module: string): () => Promise<undefined> {
  return async () => {
    await import(module);
    return undefined;
  };
}

async function libvips(): Promise<string> {
  const { default: sharp } = await import('sharp');
  return `libvips ${sharp.versions.vips}`;
}

async function equaliseSomething(): Promise<undefined> {
  const { clahe } = await import('../imaging/kernels.js');
  clahe({ width: 8, height: 8, channels: 1, data: new Uint8Array(64) }, 2, 2);
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}
