import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { parse } from 'yaml';
import { pipelineJsonSchema, SCHEMA_FILE } from '../../../scripts/schema.js';

describe('the JSON schema for editors', () => {
  it('is up to date (npm run schema writes it)', async () => {
    expect(JSON.parse(readFileSync(SCHEMA_FILE, 'utf8'))).to.deep.equal(
      JSON.parse(JSON.stringify(await pipelineJsonSchema())),
    );
  });

  it('accepts what the loader accepts, and refuses what it refuses', async () => {
    const validate = new Ajv({ validateFormats: false }).compile(await pipelineJsonSchema());
    const valid = (yaml: string): boolean => validate(parse(yaml));
    const file = (entry: string): string =>
      `{ version: 1, sources: [{ use: watch, with: { path: in } }], stages: [${entry}], sinks: [{ use: console }] }`;
    expect(valid(readFileSync(new URL('../../../pipeline.yaml', import.meta.url), 'utf8'))).to.equal(true);
    for (const entry of [
      '{ use: clahe, with: { clipLimit: 3 } }',
      '{ use: clahe, with: { clipLimit: "${CLIP:-3}" } }',
      '{ use: ./stages/invert.ts, id: x, with: { anything: 1 } }',
      '{ use: rxray-plugin-x, from: [watch], batch: { size: 3 } }',
      '{ use: resize, with: { width: 3, height: 3 } }',
      '{ use: resnet, with: { bundle: "${BUNDLE}" } }',
    ]) {
      expect(valid(file(entry)), entry).to.equal(true);
    }
    for (const entry of [
      '{ use: clahe, with: { clipLimt: 3 } }',
      '{ use: clahe, with: { clipLimit: wide } }',
      '{ use: clahhe }',
      '{ use: clahe, form: decode }',
      '{ use: clahe, id: a-b }',
      '{ use: resize }',
      '{ use: resize, with: { width: 3 } }',
    ]) {
      expect(valid(file(entry)), entry).to.equal(false);
    }
  });
});
