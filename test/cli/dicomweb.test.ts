import { expect } from 'chai';
import { toyAnogan } from '../support/bundles.js';
import { dicomFile, freePort } from '../support/dicom.js';
import { Lab } from '../support/lab.js';
import { Orthanc } from '../support/orthanc.js';
import { selfSigned, TlsFront } from '../support/tls-front.js';

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
  it('fetches every film of Orthanc once, over TLS, through a kill and a restart, and reports back', async function () {
    const identity = selfSigned();
    // Without Orthanc with its DICOMweb plugin, or without openssl.
    if (!Orthanc.isInstalled() || identity === undefined) return this.skip();
    const orthanc = await Orthanc.start(await freePort());
    const front = await TlsFront.before(orthanc.http, identity);
    const lab = await Lab.open(graphOf(`${front.origin}/dicom-web`), { 'ca.pem': identity.cert });
    const env = { NODE_EXTRA_CA_CERTS: lab.path('ca.pem') };
    try {
      await toyAnogan(lab.path('model'));
      const add = async (index: number): Promise<void> => {
        const url = `http://127.0.0.1:${orthanc.http}/instances`;
        expect(
          (await fetch(url, { method: 'POST', body: Uint8Array.from(dicomFile(index)) })).status,
        ).to.equal(200);
      };
      for (let i = 0; i < FILMS; i++) await add(i);
      const first = lab.start([], { env });
      await first.until(async () => (await lab.delivered()).length >= FILMS / 2);
      await first.kill();
      const second = lab.start([], { env });
      await add(FILMS);
      await second.until(async () => (await orthanc.objects('SR')).length >= FILMS + 1);
      second.interrupt();
      expect((await second.ended()).code).to.equal(0);
      const names = await lab.delivered();
      expect(names).to.have.length(FILMS + 1);
      expect(new Set(names).size).to.equal(FILMS + 1);
      expect(await orthanc.objects('SR')).to.have.length(FILMS + 1);
      // Nothing is sent to a server whose certificate is not trusted.
      const third = await lab.run();
      expect(third.code, third.stderr).to.equal(1);
      expect(third.stderr).to.match(/could not be reached \((DEPTH_ZERO_)?SELF_SIGNED_CERT/);
      expect(await lab.delivered()).to.have.length(FILMS + 1);
      expect(third.stderr).not.to.match(/PAT-|Röntgen/);
    } finally {
      await lab.close();
      front.close();
      await orthanc.stop();
    }
  });
});
