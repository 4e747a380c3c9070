import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { metaHeader } from '../../src/dicom/part10.js';
import type { ObjectToSend } from '../../src/dicom/scu.js';
import { EXPLICIT } from '../../src/dicom/syntaxes.js';
import { bytesOf, type Item } from '../../src/dicom/write.js';

export const CR = '1.2.840.10008.5.1.4.1.1.1';

/** The UID of an object in tests: one arc of its own for each kind. */
export function testUid(kind: 'study' | 'series' | 'film', index: number): string {
  return `1.2.826.0.1.3680043.10.1866.${{ study: 1, series: 2, film: 3 }[kind]}.${index}`;
}

export interface FilmOptions {
  readonly instance?: string;
  readonly side?: number;
  readonly patient?: string;
  /** Elements that take the place of others. */
  readonly others?: Item;
}

/** A CR film of 12 bits, a gradient with `index` in it, so that no two have the same pixels. */
export function dicomFilm(index: number, options: FilmOptions = {}): ObjectToSend {
  const { side = 64, patient = 'Prüfung^Röntgen', others = [] } = options;
  const instance = options.instance ?? testUid('film', index);
  const pixels = Buffer.alloc(2 * side * side);
  for (let i = 0; i < side * side; i++) pixels.writeUInt16LE((i * 7 + index * 131) % 4096, 2 * i);
  const elements: Item = [
    [0x00080005, 'CS', 'ISO_IR 192'],
    [0x00080016, 'UI', CR],
    [0x00080018, 'UI', instance],
    [0x00080020, 'DA', '20260102'],
    [0x00080030, 'TM', '101112'],
    [0x00080050, 'SH', `A${index}`],
    [0x00080060, 'CS', 'CR'],
    [0x00080090, 'PN', ''],
    [0x00100010, 'PN', patient],
    [0x00100020, 'LO', `PAT-${index % 4}`],
    [0x00100030, 'DA', '19700102'],
    [0x00100040, 'CS', 'O'],
    [0x00180015, 'CS', 'CHEST'],
    [0x00185101, 'CS', 'PA'],
    [0x0020000d, 'UI', testUid('study', index % 4)],
    [0x0020000e, 'UI', testUid('series', index % 4)],
    [0x00200010, 'SH', `S${index % 4}`],
    [0x00200011, 'IS', '1'],
    [0x00200013, 'IS', String(index)],
    [0x00280002, 'US', 1],
    [0x00280004, 'CS', 'MONOCHROME2'],
    [0x00280010, 'US', side],
    [0x00280011, 'US', side],
    [0x00280030, 'DS', ['0.2', '0.2']],
    [0x00280100, 'US', 16],
    [0x00280101, 'US', 12],
    [0x00280102, 'US', 11],
    [0x00280103, 'US', 0],
    [0x7fe00010, 'OW', pixels],
  ];
  const replaced = new Set(others.map(([tag]) => tag));
  const dataSet = bytesOf([...elements.filter(([tag]) => !replaced.has(tag)), ...others]);
  return { sopClass: CR, instance, dataSet };
}

/** The same as a file. */
export function dicomFile(index: number, options: FilmOptions = {}): Buffer {
  const { sopClass, instance, dataSet } = dicomFilm(index, options);
  return Buffer.concat([metaHeader({ sopClass, instance, syntax: EXPLICIT }), dataSet]);
}

/** Whether a program is installed. */
export function has(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
}

/** A port that nothing listens at now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** Runs a program to its end. */
export async function execute(
  program: string,
  args: readonly string[],
): Promise<{ code: number | null; output: string }> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (text: Buffer) => (output += text.toString()));
  child.stderr.on('data', (text: Buffer) => (output += text.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, output };
}
