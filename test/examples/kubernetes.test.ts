import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { parseAllDocuments } from 'yaml';

/** The package of each kind, as `kubernetes-models` has them: generated from the API's own schemas. */
const MODULES: Readonly<Record<string, string>> = {
  Service: 'v1/Service',
  StatefulSet: 'apps/v1/StatefulSet',
  Deployment: 'apps/v1/Deployment',
  Job: 'batch/v1/Job',
};
type Model = new (data: object) => { validate(): void };

const FOLDER = new URL('../../examples/kubernetes/', import.meta.url);

describe('the manifests in examples/kubernetes', () => {
  const modules = join(process.env['RXRAY_KUBERNETES'] ?? process.cwd(), 'node_modules/kubernetes-models');

  it('are what the API takes', async function () {
    // npm install --prefix FOLDER kubernetes-models@5.1.0, and RXRAY_KUBERNETES=FOLDER: .ci/run does it.
    if (!existsSync(modules)) this.skip();
    for (const name of await readdir(FOLDER)) {
      for (const document of parseAllDocuments(await readFile(new URL(name, FOLDER), 'utf8'))) {
        const data = document.toJS() as { kind: string };
        const models = (await import(join(modules, `${MODULES[data.kind] ?? data.kind}.js`))) as Record<
          string,
          Model
        >;
        const Kind = models[data.kind];
        expect(Kind, `${name}: ${data.kind}`).to.be.a('function');
        if (Kind !== undefined)
          expect(() => new Kind(data).validate(), `${name}: ${data.kind}`).not.to.throw();
      }
    }
  });
});
