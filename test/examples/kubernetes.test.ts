import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';
import { parseAllDocuments } from 'yaml';

/** The module of each kind, generated from the API's own schemas. */
const MODULES: Readonly<Record<string, string>> = {
  Service: 'kubernetes-models/v1/Service',
  StatefulSet: 'kubernetes-models/apps/v1/StatefulSet',
  Deployment: 'kubernetes-models/apps/v1/Deployment',
  Job: 'kubernetes-models/batch/v1/Job',
  ScaledObject: '@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject',
  TriggerAuthentication: '@kubernetes-models/keda/keda.sh/v1alpha1/TriggerAuthentication',
};
type Model = new (data: object) => { validate(): void };

const FOLDER = new URL('../../examples/kubernetes/', import.meta.url);

describe('the manifests in examples/kubernetes', () => {
  const modules = join(process.env['RXRAY_KUBERNETES'] ?? process.cwd(), 'node_modules');

  it('are what the API takes', async function () {
    // npm install --prefix FOLDER kubernetes-models@5.1.0 @kubernetes-models/keda@2.0.0, and RXRAY_KUBERNETES=FOLDER:
    // .ci/run does it.
    if (!existsSync(join(modules, '@kubernetes-models/keda'))) this.skip();
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
