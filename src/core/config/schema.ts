import { z } from 'zod';
import { isThisMachine } from '../this-machine.js';
import { MAX_TIMER_MS } from '../plugin.js';

/** The host's part of a pipeline file. The plugin's part is under `with`, and has the plugin's own schema. */

/** Maximum number of sources, of stages and of sinks. */
export const MAX_ENTRIES = 1000;

const use = z
  .string()
  .min(1)
  .describe('The plugin: a built-in name, a file (./stages/invert.ts) or a package.');
const id = z
  .string()
  .regex(/^[A-Za-z_]\w*$/, 'expected letters, digits and _, not beginning with a digit')
  .describe("How others refer to this entry. Default: the plugin's name, with _ for -.");
const from = z
  .union([z.string().min(1), z.array(z.string().min(1)).min(1)])
  .describe('The id, or ids, of the entries it takes frames from. Default: the entry above.');
const when = z
  .string()
  .describe(
    'A CEL expression over id, file, origin, meta and results: only frames for which it is true enter.',
  );
const options = z.record(z.string(), z.unknown()).default({}).describe("The plugin's options.");

export const batchSchema = z
  .strictObject({
    size: z.int().min(1).max(4096).default(16).describe('Maximum number of frames in a batch.'),
    waitMs: z
      .number()
      .min(0)
      .max(MAX_TIMER_MS)
      .default(100)
      .describe('How many milliseconds a batch may wait for more frames. A single film never waits.'),
  })
  .describe('Processes several frames of one size at once.');

const retry = {
  backoffMs: z
    .int()
    .min(1)
    .max(MAX_TIMER_MS)
    .default(500)
    .describe('Milliseconds before the second attempt; doubled each time, with random jitter.'),
  maxBackoffMs: z
    .int()
    .min(1)
    .max(MAX_TIMER_MS)
    .default(30_000)
    .describe('Maximum wait between two attempts, in milliseconds.'),
};
const stageRetry = z
  .strictObject({
    attempts: z.int().min(1).max(100).default(3).describe('Maximum number of attempts.'),
    ...retry,
  })
  .describe('Retries a failed frame. Default: no retry.');
const sinkRetry = z
  .strictObject({
    attempts: z
      .int()
      .min(1)
      .max(100)
      .default(10)
      .describe(
        'Maximum number of attempts for a frame while the sink accepts others. After that the sink has refused the frame.',
      ),
    ...retry,
    giveUpAfterMs: z
      .int()
      .min(0)
      .max(MAX_TIMER_MS)
      .default(600_000)
      .describe(
        'With --once: how many milliseconds to wait for a sink that is down. Frames it has not received stay in the journal for the next run.',
      ),
  })
  .describe('How often, and after which waits, a failed write is retried.');

const onError = z.enum(['deadLetter', 'continue', 'stop']);
const stageOnError = onError.describe(
  'What happens to a frame that the stage fails on: it goes to the dead letter (default), continues as if the stage were not there, or ends the run.',
);
const sinkOnError = onError.describe(
  'What happens to a frame that the sink refuses: it goes to the dead letter (default), counts as delivered, or ends the run.',
);

export const sourceSchema = z.strictObject({ use, id: id.optional(), with: options });

export const stageSchema = z.strictObject({
  use,
  id: id.optional(),
  from: from.optional(),
  when: when.optional(),
  batch: batchSchema.optional(),
  concurrency: z
    .int()
    .min(1)
    .max(1024)
    .optional()
    .describe('Maximum number of frames (or batches) processed at the same time.'),
  timeoutMs: z
    .int()
    .min(1)
    .max(MAX_TIMER_MS)
    .optional()
    .describe(
      'How many milliseconds the stage may work on a frame before the frame fails. A batch may take this long for each of its frames. Default: 600000 (ten minutes).',
    ),
  retry: stageRetry.optional(),
  onError: stageOnError.optional(),
  shadow: z
    .boolean()
    .optional()
    .describe(
      'Tries a stage beside the others: its results are recorded and compared (`rxray shadow`), but are no part of the verdict, and a failure in it fails no film.',
    ),
  with: options,
});

export const sinkSchema = z.strictObject({
  use,
  id: id.optional(),
  from: from
    .optional()
    .describe('The id, or ids, of the stages it takes frames from. Default: the last stage.'),
  when: when.optional(),
  retry: sinkRetry.prefault({}),
  timeoutMs: z
    .int()
    .min(1)
    .max(2 ** 31 - 1)
    .default(60_000)
    .describe(
      'How many milliseconds a write may take. After that the sink counts as down until the write returns, and frames wait for it in the journal.',
    ),
  onError: sinkOnError.optional(),
  with: options,
});

const limits = z
  .strictObject({
    frames: z.int().min(1).default(64).describe('Maximum number of frames in flight.'),
    bytes: z
      .int()
      .min(1)
      .default(512 * 1024 * 1024)
      .describe('Maximum number of bytes of all frames in flight, encoded and decoded.'),
    minFreeBytes: z
      .int()
      .min(0)
      .default(128 * 1024 * 1024)
      .describe(
        'No file is admitted while the disk of the state folder has less free space than this. Processing resumes when space is free again.',
      ),
  })
  .describe('Limits on frames in flight. Waiting files cost no memory.');

export const clusterSchema = z
  .strictObject({
    use: z.enum(['nats']).describe('The message broker.'),
    with: z.strictObject({
      servers: z
        .array(z.string().min(1))
        .min(1)
        .describe(
          'Addresses of the NATS servers: `nats://host:4222`; `tls://host:4222` requires encryption; with `user:password@` or `token@` before the host.',
        ),
      credentials: z
        .string()
        .default('')
        .describe('A credentials file of NATS, read at each connection. Default: none.'),
      tls: z
        .strictObject({
          ca: z
            .string()
            .min(1)
            .optional()
            .describe('Certificates to trust, a PEM file. Default: those of Node.'),
          cert: z
            .string()
            .min(1)
            .optional()
            .describe('Our own certificate, a PEM file, if the servers require one (`verify: true`).'),
          key: z.string().min(1).optional().describe('Its private key, a PEM file.'),
        })
        .optional()
        .describe('Requires encryption, with these files, read at each connection.'),
    }),
    films: z
      .enum(['shared', 'head', 'object'])
      .default('shared')
      .describe(
        'How workers get the films. `shared`: they read them under the same path as the head. `head`: from the head, at `serve`. `object`: they fetch the `s3:` and `https:` addresses of a `manifest` themselves.',
      ),
    serve: z
      .strictObject({
        listen: z
          .string()
          .regex(/^(\[[^\]]+\]|[^:]+):\d{1,5}$/, 'expected host:port')
          .default('0.0.0.0:8485')
          .describe('Where the head listens.'),
        url: z
          .url({ protocol: /^https?$/ })
          .describe(
            'The address that workers use: `https://head.example:8485`. `http:` only for this machine.',
          ),
        cert: z.string().min(1).optional().describe("The certificate's file (PEM), with its chain."),
        key: z.string().min(1).optional().describe("The private key's file (PEM)."),
      })
      .refine(
        ({ url, cert, key }) => (cert !== undefined && key !== undefined) || isLocalHttp(url),
        'expected `cert` and `key`',
      )
      .optional()
      .describe(
        'Where the head serves films to its workers, for `films: head`, and takes pictures from them, for sinks that need pixels.',
      ),
    leaseMs: z
      .int()
      .min(500)
      .max(3_600_000)
      .default(15_000)
      .describe(
        'After this many milliseconds without a message from a worker, its films go to other workers.',
      ),
    drainSeconds: z
      .int()
      .min(1)
      .max(86_400)
      .default(60)
      .describe(
        'The head asks for as many workers as finish the backlog in so many seconds (for autoscaling).',
      ),
    attempts: z
      .int()
      .min(1)
      .max(100)
      .default(3)
      .describe('A film fails after this many workers died while it was their only film.'),
    frames: z.int().min(1).default(2000).describe('Maximum number of films in flight.'),
  })
  .refine(({ films, serve }) => films !== 'head' || serve !== undefined, {
    error: 'expected `serve` with `films: head`',
    path: ['films'],
  })
  .describe('`rxray head` leaves the stages to `rxray work` on other machines. `rxray run` ignores this.');

/** Films without encryption stay on this machine. */
function isLocalHttp(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'http:' && isThisMachine(hostname);
}

export const pipelineSchema = z.strictObject({
  version: z.literal(1).describe('The version of this format.'),
  name: z.string().min(1).optional().describe("Name of the pipeline. Default: the file's name."),
  state: z
    .string()
    .min(1)
    .default('.rxray')
    .describe('The folder of the journal and the dead letter, relative to this file.'),
  limits: limits.prefault({}),
  duplicates: z
    .enum(['process', 'skip'])
    .default('process')
    .describe(
      'What happens to a file with the same bytes as another one: it is processed like any other, or skips the stages and reaches the sinks with the name of the other in `results.duplicate`.',
    ),
  shutdownTimeoutMs: z
    .int()
    .min(0)
    .max(MAX_TIMER_MS)
    .default(30_000)
    .describe(
      'How many milliseconds frames in flight may take to finish on shutdown. The next start processes the others.',
    ),
  threads: z
    .int()
    .min(1)
    .max(1024)
    .optional()
    .describe(
      'Maximum number of threads for the stages that run in worker threads, and as many again for a model while it runs. Default: one per CPU core.',
    ),
  maxErrors: z
    .int()
    .min(1)
    .optional()
    .describe(
      'The run ends with code 3 when this many films have failed in it; films in flight are finished. Default: it goes on.',
    ),
  cluster: clusterSchema.optional(),
  sources: z.array(z.unknown()).min(1).max(MAX_ENTRIES).describe('Where images come from.'),
  stages: z.array(z.unknown()).max(MAX_ENTRIES).default([]).describe('What processes them.'),
  sinks: z.array(z.unknown()).min(1).max(MAX_ENTRIES).describe('Where the results go.'),
});
