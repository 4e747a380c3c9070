import { z } from 'zod';
import { durably } from '../core/durable.js';
import { RxrayError, Unavailable } from '../core/errors.js';
import type { Frame } from '../core/frame.js';
import {
  defineSink,
  type LintMessage,
  MAX_TIMER_MS,
  type SinkInstance,
  type SinkServices,
} from '../core/plugin.js';
import { metaHeader } from '../dicom/part10.js';
import type { ObjectToSend } from '../dicom/scu.js';
import { EXPLICIT } from '../dicom/syntaxes.js';
import { objectMaker, objectOptions, pictureRendering } from './dicom/objects.js';
import { addressFaults, headerFaults, logRoute, post, readAnswer, refusalOf } from '../core/http.js';
import { oneByOne } from './one-by-one.js';

const options = z.strictObject({
  url: z
    .url({ protocol: /^https?$/ })
    .describe(
      'The root of the DICOMweb service, to which `/studies` is added: `http://127.0.0.1:8042/dicom-web`.',
    ),
  headers: z
    .record(z.string(), z.string())
    .default({})
    .describe('Additional headers, such as `Authorization`.'),
  ...objectOptions,
  answerTimeoutMs: z
    .int()
    .positive()
    .max(MAX_TIMER_MS)
    .default(20_000)
    .describe('Time limit for one attempt.'),
});
type DicomwebOptions = z.output<typeof options>;

export default defineSink({
  name: 'dicomweb',
  summary: 'Sends a structured report of every DICOM film to a PACS over HTTP (STOW-RS).',
  options,
  examples: [
    { title: 'To an Orthanc on this machine', with: { url: 'http://127.0.0.1:8042/dicom-web' } },
    {
      title: 'With a picture and a token',
      with: {
        url: 'https://pacs.example.org/dicomweb',
        headers: { authorization: 'Bearer 0123' },
        picture: true,
      },
    },
  ],
  outbox: true,
  pixels: ({ picture }) => picture,
  ...pictureRendering,
  lint: ({ url, headers }) => faultsOf(url, headers),
  create: dicomwebSink,
});

/** Separates the parts of a request. */
const BOUNDARY = 'rxray-7c1f0b9e5d2a4836';
/** FailedSOPSequence and FailureReason in the answer (PS3.18, table 10.5.1-1). */
const FAILED = '00081198';
const REASON = '00081197';

async function dicomwebSink(settings: DicomwebOptions, services: SinkServices): Promise<SinkInstance> {
  const { id: component, signal: teardown } = services;
  for (const { option, message } of faultsOf(settings.url, settings.headers)) {
    throw new RxrayError('CONFIG_CREATE', `${option.join('.')}: ${message}`, { component });
  }
  const url = new URL(`${settings.url.replace(/\/+$/, '')}/studies`);
  logRoute(url, services.log);
  const objectsOf = await objectMaker(settings, services);
  const headers = new Headers({
    'content-type': `multipart/related; type="application/dicom"; boundary=${BOUNDARY}`,
    accept: 'application/dicom+json',
    'user-agent': 'rxray',
  });
  for (const [name, value] of Object.entries(settings.headers)) headers.set(name, value);

  const refused = (reason: string): RxrayError =>
    new RxrayError('FRAME_SINK', `${url.origin} did not accept the report: ${reason}`, { component });

  async function send(frame: Frame): Promise<void> {
    const objects = await objectsOf(frame);
    if (objects.length === 0) return;
    const body = multipart(objects);
    const response = await post(url, { headers, body, timeoutMs: settings.answerTimeoutMs, teardown });
    const { status } = response;
    if (status === 200 || status === 202) {
      const failures = failuresIn(await readAnswer(response));
      if (failures.some((reason) => reason >> 8 === 0xa7)) throw new Unavailable('it is out of resources');
      const [reason] = failures;
      if (reason === undefined) return;
      throw refused(`it failed with the reason ${reason.toString(16).toUpperCase().padStart(4, '0')}`);
    }
    await readAnswer(response);
    throw refused(refusalOf(response));
  }

  return oneByOne(
    'dicomweb',
    async (frames) => {
      for (const frame of frames) await durably('dicomweb.post', () => send(frame));
    },
    () => undefined,
  );
}

/** The objects as DICOM files, one part each (PS3.18, 8.7.1). */
function multipart(objects: readonly ObjectToSend[]): Uint8Array<ArrayBuffer> {
  const parts = objects.flatMap(({ sopClass, instance, dataSet }) => [
    Buffer.from(`--${BOUNDARY}\r\ncontent-type: application/dicom\r\n\r\n`),
    metaHeader({ sopClass, instance, syntax: EXPLICIT }),
    dataSet,
    Buffer.from('\r\n'),
  ]);
  return Uint8Array.from(Buffer.concat([...parts, Buffer.from(`--${BOUNDARY}--\r\n`)]));
}

const failed = z.object({
  [FAILED]: z
    .object({
      Value: z.array(z.object({ [REASON]: z.object({ Value: z.array(z.number()) }) })),
    })
    .optional(),
});

/** The failure reasons of the objects that were not stored; none if the answer has no body. */
function failuresIn(answer: string): number[] {
  try {
    const { [FAILED]: sequence } = failed.parse(JSON.parse(answer));
    return sequence?.Value.flatMap((item) => item[REASON].Value.slice(0, 1)) ?? [];
  } catch {
    return [];
  }
}

function faultsOf(url: string, headers: Readonly<Record<string, string>>): LintMessage[] {
  return [...addressFaults(url), ...headerFaults(headers)];
}
