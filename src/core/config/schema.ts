import { z } from 'zod';
import { MAX_TIMER_MS } from '../plugin.js';

/** What belongs to the host in a pipeline file. What belongs to a plugin stands under `with`, in its own schema. */

/** Of sources, stages and sinks each. */
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
    size: z.int().min(1).max(4096).default(16).describe('As many frames at most.'),
    waitMs: z
      .number()
      .min(0)
      .max(MAX_TIMER_MS)
      .default(100)
      .describe('Wait so many milliseconds for more, at most; a film that is alone never waits.'),
  })
  .describe('Hand several frames of one size to the stage at once.');

const retry = {
  backoffMs: z
    .int()
    .min(1)
    .max(MAX_TIMER_MS)
    .default(500)
    .describe('Milliseconds before the second attempt; they double each time, with some chance.'),
  maxBackoffMs: z
    .int()
    .min(1)
    .max(MAX_TIMER_MS)
    .default(30_000)
    .describe('The longest wait in milliseconds.'),
};
const stageRetry = z
  .strictObject({
    attempts: z.int().min(1).max(100).default(3).describe('As often at most.'),
    ...retry,
  })
  .describe('Try a frame again that the stage fails on. Default: once is enough.');
const sinkRetry = z
  .strictObject({
    attempts: z
      .int()
      .min(1)
      .max(100)
      .default(10)
      .describe('A frame that the sink fails on as often, while it takes others, is refused.'),
    ...retry,
    giveUpAfterMs: z
      .int()
      .min(0)
      .max(MAX_TIMER_MS)
      .default(600_000)
      .describe(
        'With --once: how many milliseconds of an outage to wait. What the sink has not got then waits in the journal for the next run.',
      ),
  })
  .describe('How often, and with which waits, a sink is asked again that cannot take a frame.');

const onError = z.enum(['deadLetter', 'continue', 'stop']);
const stageOnError = onError.describe(
  'A frame that the stage fails on goes to the dead letter (default), goes on as if the stage were not there, or ends the run.',
);
const sinkOnError = onError.describe(
  'A frame that the sink refuses goes to the dead letter (default), counts as delivered, or ends the run.',
);

export const sourceSchema = z.strictObject({ use, id: id.optional(), with: options });

export const stageSchema = z.strictObject({
  use,
  id: id.optional(),
  from: from.optional(),
  when: when.optional(),
  batch: batchSchema.optional(),
  concurrency: z.int().min(1).max(1024).optional().describe('How many frames (or batches) at the same time.'),
  timeoutMs: z
    .int()
    .min(1)
    .max(MAX_TIMER_MS)
    .optional()
    .describe(
      'A frame on which the stage works for longer, in milliseconds, fails; a batch may take as long for each of its frames. Default: 600000 (ten minutes).',
    ),
  retry: stageRetry.optional(),
  onError: stageOnError.optional(),
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
    frames: z.int().min(1).default(64).describe('Frames in flight at most.'),
    bytes: z
      .int()
      .min(1)
      .default(512 * 1024 * 1024)
      .describe('Bytes of all frames in flight, encoded and decoded, at most.'),
    minFreeBytes: z
      .int()
      .min(0)
      .default(128 * 1024 * 1024)
      .describe(
        'While the disk of the state folder has less free space, no file is taken in. It goes on by itself.',
      ),
  })
  .describe('Bounds on what is in flight; what waits outside costs nothing.');

export const clusterSchema = z
  .strictObject({
    use: z.enum(['nats']).describe('What carries the work.'),
    with: z.strictObject({
      servers: z
        .array(z.string().min(1))
        .min(1)
        .describe('`nats://` or `tls://` addresses of the NATS servers.'),
      credentials: z.string().default('').describe('A credentials file of NATS. Default: none.'),
    }),
    films: z
      .enum(['shared'])
      .default('shared')
      .describe('How workers get at the films: under the same path as the head.'),
    leaseMs: z
      .int()
      .min(500)
      .max(3_600_000)
      .default(15_000)
      .describe('A worker that has been silent for so many milliseconds loses its films to others.'),
    attempts: z
      .int()
      .min(1)
      .max(100)
      .default(3)
      .describe('A film fails when so many workers have died while it was the only one they had.'),
    frames: z.int().min(1).default(2000).describe('Films that the head has in flight at most.'),
  })
  .describe('`rxray head` leaves the stages to `rxray work` on other machines. `rxray run` ignores this.');

export const pipelineSchema = z.strictObject({
  version: z.literal(1).describe('The version of this format.'),
  name: z.string().min(1).optional().describe("What to call the pipeline. Default: the file's name."),
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
      'A file with the bytes of another one: processed like any other, or led past the stages to the sinks, with the name of the other in `results.duplicate`.',
    ),
  shutdownTimeoutMs: z
    .int()
    .min(0)
    .max(MAX_TIMER_MS)
    .default(30_000)
    .describe(
      'How many milliseconds the frames in flight have to come through when the run is stopped; the next start takes the others.',
    ),
  cluster: clusterSchema.optional(),
  sources: z.array(z.unknown()).min(1).max(MAX_ENTRIES).describe('What feeds images into the graph.'),
  stages: z.array(z.unknown()).max(MAX_ENTRIES).default([]).describe('What changes or scores them.'),
  sinks: z.array(z.unknown()).min(1).max(MAX_ENTRIES).describe('Where the results go.'),
});
