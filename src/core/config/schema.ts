import { z } from 'zod';

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

const batch = z
  .strictObject({
    size: z.int().min(1).max(4096).default(16).describe('As many frames at most.'),
    waitMs: z.number().min(0).default(20).describe('Wait so many milliseconds for more, at most.'),
  })
  .describe('Hand several frames of one size to the stage at once.');

export const sourceSchema = z.strictObject({ use, id: id.optional(), with: options });

export const stageSchema = z.strictObject({
  use,
  id: id.optional(),
  from: from.optional(),
  when: when.optional(),
  batch: batch.optional(),
  concurrency: z.int().min(1).max(1024).optional().describe('How many frames (or batches) at the same time.'),
  with: options,
});

export const sinkSchema = z.strictObject({
  use,
  id: id.optional(),
  from: from
    .optional()
    .describe('The id, or ids, of the stages it takes frames from. Default: the last stage.'),
  when: when.optional(),
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
  })
  .describe('Bounds on what is in flight; what waits outside costs nothing.');

export const pipelineSchema = z.strictObject({
  version: z.literal(1).describe('The version of this format.'),
  name: z.string().min(1).optional().describe("What to call the pipeline. Default: the file's name."),
  state: z
    .string()
    .min(1)
    .default('.rxray')
    .describe('The folder of the journal and the dead letter, relative to this file.'),
  limits: limits.prefault({}),
  sources: z.array(z.unknown()).min(1).max(MAX_ENTRIES).describe('What feeds images into the graph.'),
  stages: z.array(z.unknown()).max(MAX_ENTRIES).default([]).describe('What changes or scores them.'),
  sinks: z.array(z.unknown()).min(1).max(MAX_ENTRIES).describe('Where the results go.'),
});
