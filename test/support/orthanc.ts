import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort, has } from './dicom.js';

const EXAMPLE = fileURLToPath(new URL('../../examples/pacs/', import.meta.url));
const PLUGIN = '/usr/share/orthanc/plugins/libOrthancDicomWeb.so';

/** The PACS of `examples/pacs`, on ports of its own. */
export class Orthanc {
  private constructor(
    readonly folder: string,
    private readonly child: ChildProcess,
    readonly http: number,
    readonly dicom: number,
  ) {}

  static isInstalled(): boolean {
    return has('Orthanc') && existsSync(PLUGIN);
  }

  /** `rxray` is the port to which it routes films. */
  static async start(rxray: number): Promise<Orthanc> {
    const folder = await mkdtemp(join(tmpdir(), 'rxray-orthanc-'));
    await cp(EXAMPLE, folder, { recursive: true });
    const [http, dicom] = [await freePort(), await freePort()];
    const text = await readFile(join(folder, 'orthanc.json'), 'utf8');
    const config = text
      .replace('8042', String(http))
      .replace('4242', String(dicom))
      .replace('11112', String(rxray));
    await writeFile(join(folder, 'orthanc.json'), config.replace('/usr/share/orthanc/plugins', PLUGIN));
    const child = spawn('Orthanc', ['orthanc.json'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const orthanc = new Orthanc(folder, child, http, dicom);
    while (!(await orthanc.get('/system').then(Boolean, () => false))) {
      if (child.exitCode !== null) throw new Error(`Orthanc ended: ${output}`);
      await setTimeout(50);
    }
    return orthanc;
  }

  get url(): string {
    return `http://127.0.0.1:${this.http}/dicom-web`;
  }

  async get(path: string): Promise<unknown> {
    const response = await fetch(`http://127.0.0.1:${this.http}${path}`);
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return response.json();
  }

  /** The DICOM files of a modality that it has. */
  async objects(modality: string): Promise<Buffer[]> {
    const series = (await this.get('/series?expand')) as {
      Instances: string[];
      MainDicomTags: { Modality?: string };
    }[];
    const ids = series
      .filter((each) => each.MainDicomTags.Modality === modality)
      .flatMap((each) => each.Instances);
    return Promise.all(
      ids.map(async (id) => {
        const response = await fetch(`http://127.0.0.1:${this.http}/instances/${id}/file`);
        return Buffer.from(await response.arrayBuffer());
      }),
    );
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('close', resolve));
    if (this.child.exitCode === null) {
      this.child.kill('SIGKILL');
      await ended;
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}
