import { expect } from 'chai';
import { readdirSync, readFileSync } from 'node:fs';
import onnxProto from 'onnx-proto';
import { parse } from 'yaml';
import { bundleSchema, type Bundle } from '../../src/models/bundle.js';
import { modelCard, type About } from '../../src/training/card.js';
import { checkOnnx } from '../engine/onnx-checker.js';

type ValueInfo = onnxProto.onnx.IValueInfoProto;
type Shapes = Record<string, (number | string)[]>;

const ROOT = new URL('../../models/', import.meta.url);

/** What a bundle's file takes and gives, `N` being the batch, by role. */
function interfaceOf({
  kind,
  input,
  labels,
  architecture,
}: Bundle): Record<string, { inputs: Shapes; outputs: Shapes }> {
  const images = ['N', input.height, input.width, input.channels];
  const z = ['N', Number(architecture['zDim'])];
  const classes = ['N', labels.length];
  return {
    model: {
      inputs: { images },
      outputs:
        kind === 'patchcore'
          ? {}
          : kind === 'segmenter'
            ? { probabilities: images }
            : { logits: classes, probabilities: classes },
    },
    pca: { inputs: { images }, outputs: { error: ['N'] } },
    generator: { inputs: { z }, outputs: { images } },
    features: { inputs: { images }, outputs: {} },
    encoder: { inputs: { images }, outputs: { z } },
    discriminator: { inputs: { images }, outputs: {} },
    search: { inputs: { x: images, z, steps: [] }, outputs: { reconstruction: images, residual: ['N'] } },
  };
}

function shapesOf(values: readonly ValueInfo[] | null | undefined): Shapes {
  return Object.fromEntries(
    (values ?? []).map(({ name, type }) => [
      name ?? '',
      (type?.tensorType?.shape?.dim ?? []).map(({ dimParam, dimValue }) => dimParam ?? Number(dimValue)),
    ]),
  );
}

function read(folder: string, path: string): Buffer {
  return readFileSync(new URL(`${folder}/${path}`, ROOT));
}

const folders = readdirSync(ROOT, { withFileTypes: true }).filter((entry) => entry.isDirectory());
const bundles = folders.map(({ name }): [string, Bundle] => [
  name,
  bundleSchema.parse(JSON.parse(read(name, 'bundle.json').toString())),
]);

describe('shipped models', () => {
  for (const [folder, bundle] of bundles) {
    for (const [role, { path }] of Object.entries(bundle.files)) {
      it(`${folder}/${path} opens in an independent decoder, with the interface in bundle.json`, () => {
        const { graph, opsetImport } = onnxProto.onnx.ModelProto.decode(read(folder, path));
        expect(opsetImport.map(({ domain, version }) => [domain, Number(version)])).to.deep.equal([['', 17]]);
        const expected = interfaceOf(bundle)[role];
        expect(expected, `the role "${role}"`).to.not.equal(undefined);
        expect(shapesOf(graph?.input)).to.deep.include(expected?.inputs ?? {});
        expect(shapesOf(graph?.output)).to.deep.include(expected?.outputs ?? {});
      });
    }
  }

  for (const [folder, bundle] of bundles) {
    it(`${folder}'s card says what its bundle and ${folder}.about.yaml say`, () => {
      const { limits } = parse(read('.', `${folder}.about.yaml`).toString()) as About;
      for (const limit of limits) expect(limit).to.be.a('string');
      expect(read(folder, 'README.md').toString()).to.equal(modelCard(bundle, limits));
    });
  }

  it('pass onnx.checker', async function () {
    const files = bundles.flatMap(([folder, bundle]) =>
      Object.values(bundle.files).map(({ path }): [string, Uint8Array] => [
        `${folder}-${path}`,
        read(folder, path),
      ]),
    );
    await checkOnnx(this, Object.fromEntries(files));
  }).timeout(60_000);
});
