import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { referenceOf } from '../../src/models/reference.js';
import { toyAnogan } from '../support/bundles.js';
import { dicomFile, execute, freePort } from '../support/dicom.js';
import { Lab } from '../support/lab.js';
import { Orthanc } from '../support/orthanc.js';

const LUNGS = fileURLToPath(new URL('../../models/chest-lungs', import.meta.url));

describe('examples/pacs', () => {
  it('routes films from Orthanc to rxray, and reports back by STOW and by C-STORE', async function () {
    if (!Orthanc.isInstalled()) return this.skip();
    this.timeout(120_000);
    const port = await freePort();
    const orthanc = await Orthanc.start(port);
    const yaml = (await readFile(join(orthanc.folder, 'pipeline.yaml'), 'utf8'))
      .replace('11112', String(port))
      .replace('8042', String(orthanc.http))
      .replace('4242', String(orthanc.dicom))
      .replace('../../models/chest-lungs', LUNGS)
      .replace('../../models/chest-anogan', './model');
    const lab = await Lab.open(yaml);
    const films = await mkdtemp(join(tmpdir(), 'rxray-pacs-'));
    try {
      // Every film is stranger than these, so that each goes back by both ways.
      const settings = { steps: 3, lambda: 0.1, learningRate: 0.05, restarts: 1 };
      await toyAnogan(lab.path('model'), { reference: { search: referenceOf([0, 0.001, 0.002], settings) } });
      const running = lab.start();
      await running.said(/listening for DICOM|is running/);
      for (const i of [0, 1, 2]) await writeFile(join(films, `${i}.dcm`), dicomFile(i));
      const sent = await execute('storescu', [
        '-aec',
        'ORTHANC',
        '127.0.0.1',
        String(orthanc.dicom),
        '+sd',
        films,
      ]);
      expect(sent.code, sent.output).to.equal(0);
      await running.until(
        async () => (await orthanc.objects('SR')).length >= 3 && (await orthanc.objects('OT')).length >= 3,
      );
      // By both ways it is the same report, in the study of its film: the PACS has it once.
      expect(await orthanc.objects('SR')).to.have.length(3);
      expect(await orthanc.get('/studies')).to.have.length(3);
      const [report] = await orthanc.objects('SR');
      await writeFile(join(films, 'report.sr'), report ?? '');
      const { output } = await execute('dsrdump', [join(films, 'report.sr')]);
      expect(output)
        .to.match(/Percentile among normal films"\)="\d+/)
        .and.match(/Algorithm Name"\)="toy"/);
      // Nothing is left of the films: both sinks have confirmed.
      await running.until(async () => {
        const left = await readdir(lab.path('received'), { recursive: true });
        return left.filter((name) => name.endsWith('.dcm')).length === 0;
      });
      running.interrupt();
      expect((await running.ended()).code).to.equal(0);
    } finally {
      await lab.close();
      await orthanc.stop();
      await rm(films, { recursive: true });
    }
  });
});
