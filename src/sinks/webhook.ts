import { Webhook } from 'standardwebhooks';
import { z } from 'zod';
import { durably } from '../core/durable.js';
import { RxrayError } from '../core/errors.js';
import { expressionFault } from '../core/expression.js';
import type { Frame } from '../core/frame.js';
import {
  defineSink,
  MAX_TIMER_MS,
  type LintMessage,
  type SinkInstance,
  type SinkServices,
} from '../core/plugin.js';
import { addressFaults, headerFaults, logRoute, post, readAnswer, refusalOf } from '../core/http.js';
import { uidMap } from '../dicom/uid-map.js';
import { algorithmsOf } from './dicom/algorithms.js';
import { readSourceFilm } from './dicom/source-film.js';
import { oneByOne } from './one-by-one.js';
import { plain, withoutImages } from './plain.js';
import { diagnosticReportOf, reportIdentifier } from './webhook/diagnostic-report.js';

const options = z.strictObject({
  url: z
    .url({ protocol: /^https?$/ })
    .describe('The address for POST requests. Redirects are refused: give the final address.'),
  secret: z
    .string()
    .default('')
    .describe(
      'Signs every request by the Standard Webhooks specification. Base64 of the key, with or without `whsec_` in front: ' +
        '`openssl rand -base64 32` makes one. Empty: no signature.',
    ),
  headers: z
    .record(z.string(), z.string())
    .default({})
    .describe('Additional headers, such as `Authorization`.'),
  timeoutMs: z.int().positive().max(MAX_TIMER_MS).default(10_000).describe('Time limit for one attempt.'),
  format: z
    .enum(['json', 'fhir'])
    .default('json')
    .describe(
      '`json`: the results as they are. `fhir`: a FHIR R4 DiagnosticReport for `…/DiagnosticReport` of a FHIR server, with an ' +
        'Observation per stage in it.',
    ),
  identifyPatient: z
    .boolean()
    .default(false)
    .describe(
      "With `format: fhir`, for DICOM films: the patient's ID and the UID of the study as they are. Default: both as keyed hashes.",
    ),
  includeFile: z
    .boolean()
    .default(false)
    .describe("Also send the file name. Default: no, because file names may contain patients' names."),
  fields: z
    .record(z.string(), z.string())
    .optional()
    .describe(
      'With `format: json`: send only these beside the `id`: name → expression (CEL) over `file`, `id`, `origin`, `meta`, `results`, `verdict`.',
    ),
});
type WebhookOptions = z.output<typeof options>;

export default defineSink({
  name: 'webhook',
  summary: 'Sends the results of every film to a web server as signed JSON.',
  options,
  examples: [
    {
      title: 'Signed',
      with: { url: 'https://ris.example.org/rxray', secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' },
    },
    {
      title: 'Only what the receiver needs',
      with: {
        url: 'https://ris.example.org/rxray',
        headers: { authorization: 'Bearer 0123' },
        fields: { suspicion: 'verdict.suspicion', stage: 'verdict.stage' },
      },
    },
    {
      title: 'To a FHIR server',
      with: { url: 'https://fhir.example.org/R4/DiagnosticReport', format: 'fhir' },
    },
  ],
  outbox: true,
  lint: (settings) => [...faultsOf(settings)],
  create: webhookSink,
});

async function webhookSink(settings: WebhookOptions, services: SinkServices): Promise<SinkInstance> {
  const { timeoutMs } = settings;
  for (const { code = 'CONFIG_CREATE', option, message } of faultsOf(settings)) {
    throw new RxrayError(code, `${option.join('.')}: ${message}`, { component: services.id });
  }
  const url = new URL(settings.url);
  logRoute(url, services.log);
  const signer = settings.secret === '' ? undefined : new Webhook(settings.secret);
  const isFhir = settings.format === 'fhir';
  const type = isFhir ? 'application/fhir+json' : 'application/json';
  const headers = new Headers({ 'content-type': type, 'user-agent': 'rxray' });
  if (isFhir) headers.set('accept', type);
  for (const [name, value] of Object.entries(settings.headers)) headers.set(name, value);
  const payload = isFhir ? await reportMaker(settings, services) : payloadOf(settings, services);

  async function send(frame: Frame): Promise<void> {
    const id = messageId(frame);
    const body = JSON.stringify(await payload(frame));
    const now = new Date();
    const all = new Headers(headers);
    all.set('webhook-id', id);
    // A conditional create (hl7.org/fhir/R4/http.html#ccreate): a FHIR server that has the report does not create a second one.
    if (isFhir) {
      const { system, value } = reportIdentifier(frame);
      all.set('if-none-exist', `identifier=${encodeURIComponent(`${system}|${value}`)}`);
    }
    all.set('webhook-timestamp', String(Math.floor(now.getTime() / 1000)));
    if (signer !== undefined) all.set('webhook-signature', signer.sign(id, now, body));

    const response = await post(url, { headers: all, body, timeoutMs, teardown: services.signal });
    await readAnswer(response);
    if (response.ok) return;
    const { status } = response;
    const answer = refusalOf(response);
    if (status >= 300 && status < 400)
      throw failed(`${answer}. Redirects are refused: give the final address`);
    throw failed(`${answer}, expected 2xx`);
  }

  /** Names only the host: path and query of a webhook may be secret. */
  const failed = (reason: string): RxrayError =>
    new RxrayError('FRAME_SINK', `${url.origin} did not accept the film: ${reason}`, {
      component: services.id,
    });

  return oneByOne(
    'webhook',
    async (frames) => {
      for (const frame of frames) await durably('webhook.post', () => send(frame));
    },
    () => undefined,
  );
}

/**
 * Stable over attempts and restarts. A film that the user has processed again gets another id: otherwise a receiver
 * that remembers ids would drop it.
 */
function messageId({ id, repeat }: Frame): string {
  return repeat === undefined ? id : `${id}.${repeat}`;
}

/** Errors of the settings. The libraries' messages are not used: they may contain secrets. */
function* faultsOf(settings: WebhookOptions): Generator<LintMessage> {
  const { url, secret, headers, fields = {}, format, identifyPatient } = settings;
  yield* addressFaults(url);
  for (const option of ['fields', 'includeFile'] as const) {
    if (format === 'json' || settings[option] === undefined || settings[option] === false) continue;
    yield { severity: 'error', option: [option], message: 'not with `format: fhir`, whose content is fixed' };
  }
  if (format === 'json' && identifyPatient) {
    yield { severity: 'error', option: ['identifyPatient'], message: 'only with `format: fhir`' };
  }
  if (secret !== '' && !works(() => new Webhook(secret))) {
    const message = 'expected base64, with or without `whsec_` in front (`openssl rand -base64 32`)';
    yield { severity: 'error', option: ['secret'], message };
  }
  yield* headerFaults(headers);
  for (const [name, text] of Object.entries(fields)) {
    const message = expressionFault(text);
    if (message === undefined) continue;
    yield { severity: 'error', code: 'CONFIG_EXPRESSION', option: ['fields', name], message };
  }
}

function works(make: () => unknown): boolean {
  try {
    make();
    return true;
  } catch {
    return false;
  }
}

/** Reads the header of each DICOM film again, from its file: nothing of the patient passes through the graph. */
async function reportMaker(
  { identifyPatient }: WebhookOptions,
  services: SinkServices,
): Promise<(frame: Frame) => Promise<unknown>> {
  const algorithms = await algorithmsOf(services);
  const pseudonym = identifyPatient ? undefined : uidMap(services.stateDir);
  return async (frame) => {
    const film = frame.meta['format'] === 'dicom' ? await readSourceFilm(frame, services.id) : undefined;
    return diagnosticReportOf(frame, { algorithms, film, pseudonym });
  };
}

/** The request's content: without pixels, and without the file name unless requested. */
function payloadOf(settings: WebhookOptions, services: SinkServices): (frame: Frame) => unknown {
  if (settings.fields !== undefined) {
    const fields = Object.entries(settings.fields).map(
      ([name, text]) => [name, services.expression(text)] as const,
    );
    return (frame) => ({
      id: frame.id,
      ...Object.fromEntries(fields.map(([name, value]) => [name, withoutImages(value(frame))])),
    });
  }
  return (frame) => plain(frame, settings.includeFile);
}
