import { expect } from 'chai';
import { toyAnogan } from '../support/bundles.js';
import { dicomFile, freePort } from '../support/dicom.js';
import { Lab } from '../support/lab.js';
import { Orthanc } from '../support/orthanc.js';

const graphOf = (url: string): string => `
version: 1
sources:
  - id: pacs
    use: dicomweb
    with: { url: '${url}', pollMs: 200 }
stages:
  - use: decode
  - use: resize
    with: { width: 64, height: 64 }
  - id: anomaly
    use: anogan
    with: { bundle: ./model }
sinks:
  - use: csv
    with: { path: ./out.csv }
  - id: reports
    use: dicomweb
    with: { url: '${url}' }
`;

const FILMS = 12;

describe('rxray run with a DICOMweb archive', () => {
  it('fetches every film of Orthanc once, through a kill and a restart, and reports back', async function () {
    if (!Orthanc.isInstalled()) return this.skip();
    const orthanc = await Orthanc.start(await freePort());
    const lab = await Lab.open(graphOf(orthanc.url));
    try {
      await toyAnogan(lab.path('model'));
      const add = async (index: number): Promise<void> => {
        const url = `http://127.0.0.1:${orthanc.http}/instances`;
        expect(
          (await fetch(url, { method: 'POST', body: Uint8Array.from(dicomFile(index)) })).status,
        ).to.equal(200);
      };
      for (let i = 0; i < FILMS; i++) await add(i);
      const first = lab.start();
      await first.until(async () => (await lab.delivered()).length >= FILMS / 2);
      await first.kill();
      const second = lab.start();
      await add(FILMS);
      await second.until(async () => (await orthanc.objects('SR')).length >= FILMS + 1);
      second.interrupt();
      expect((await second.ended()).code).to.equal(0);
      const names = await lab.delivered();
      expect(names).to.have.length(FILMS + 1);
      expect(new Set(names).size).to.equal(FILMS + 1);
      expect(await orthanc.objects('SR')).to.have.length(FILMS + 1);
      const third = await lab.run();
      expect(third.code, third.stderr).to.equal(0);
      expect(await lab.delivered()).to.have.length(FILMS + 1);
      expect(third.stderr).not.to.match(/PAT-|Röntgen/);
    } finally {
      await lab.close();
      await orthanc.stop();
    }
  });
});
