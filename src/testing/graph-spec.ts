import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { YamlFile } from '../core/config/document.js';
import type { Issue } from '../core/config/pipeline.js';
import { parseAt, schemaIssues } from '../core/config/problems.js';
import { compileCondition, expressionFault, variablesOf } from '../core/expression.js';
import { messageOf } from '../core/errors.js';
import { valueAt } from '../core/value-at.js';
import type { Frame } from '../core/frame.js';
import type { TestedFilm } from './graph.js';

/** The expected value: the value itself, a number with a tolerance, or a range. */
const expectation = z.union([
  z.strictObject({
    value: z.number().describe('The expected number.'),
    within: z.number().nonnegative().describe('The tolerance.'),
  }),
  z
    .strictObject({
      above: z.number().optional().describe('Greater than this.'),
      below: z.number().optional().describe('Less than this.'),
    })
    .refine(({ above, below }) => above !== undefined || below !== undefined, 'expected `above` or `below`'),
  z.union([z.string(), z.number(), z.boolean(), z.null()]),
]);

const condition = z.string().superRefine((text, context) => {
  const fault = expressionFault(text);
  if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
});

const mock = z.union([
  z.strictObject({ error: z.string().describe('The stage fails with this message.') }),
  z
    .looseObject({ kind: z.string().default('mock') })
    .describe('The result that is added instead of running the stage.'),
]);

const caseSchema = z.strictObject({
  name: z.string().optional().describe("The test's name. Default: the film."),
  film: z.string().describe('The file, relative to this one.'),
  as: z.string().optional().describe("The path inside the source. Default: the file's name."),
  mock: z.record(z.string(), mock).default({}).describe('Stages that are replaced by mocks, by id.'),
  expect: z
    .record(z.string(), expectation)
    .default({})
    .describe('Values by their path: `results.classes.label: normal`, `verdict.abnormal: false`.'),
  that: z.array(condition).default([]).describe('CEL expressions that must be true.'),
  sinks: z.array(z.string()).optional().describe('The ids of exactly those sinks that must get it.'),
  fails: z
    .strictObject({
      code: z.string().optional().describe('The error code.'),
      stage: z.string().optional().describe('The id of the stage or sink that must fail.'),
      message: z.string().optional().describe('A part of the message.'),
    })
    .optional()
    .describe('The film must fail for this reason.'),
});

/** A file of tests for a graph. */
const graphSpecSchema = z.strictObject({
  pipeline: z.string().default('pipeline.yaml').describe('The pipeline file, relative to this one.'),
  env: z.record(z.string(), z.string()).default({}).describe('Environment variables for the pipeline.'),
  tests: z.array(caseSchema).min(1).describe('One entry per film.'),
});

export type GraphSpec = z.output<typeof graphSpecSchema>;
export type GraphCase = GraphSpec['tests'][number];

/** Reads a file of tests from its text; `spec` is absent if there are errors. */
export function parseGraphSpec(
  text: string,
  env: Readonly<Record<string, string | undefined>>,
): { spec?: GraphSpec; issues: readonly Issue[] } {
  const yaml = new YamlFile(text, env);
  if (yaml.data === undefined) return { issues: yaml.issues };
  const parsed = parseAt(yaml, [], graphSpecSchema, yaml.data);
  if (parsed.success) return { spec: parsed.data, issues: yaml.issues };
  return { issues: [...yaml.issues, ...schemaIssues(yaml, [], graphSpecSchema, parsed.error)] };
}

/** The differences between a film's result and its test, one line each. */
export function faultsOf(expected: GraphCase, film: TestedFilm): string[] {
  const { failure, frame, sinks } = film;
  if (expected.fails !== undefined) {
    if (failure === undefined) return ['should fail, but succeeded'];
    const { code, stage, message } = expected.fails;
    return [
      ...differs('code', code, failure.code),
      ...differs('stage', stage, failure.component),
      ...(message !== undefined && !failure.message.includes(message)
        ? [`message: expected one with "${message}", got "${failure.message}"`]
        : []),
    ];
  }
  if (failure !== undefined) {
    return [`failed in ${failure.component ?? 'reading'}: ${failure.message} (${failure.code})`];
  }
  const faults = expected.sinks === undefined ? [] : sinkFaults(expected.sinks, sinks);
  const asks = Object.keys(expected.expect).length + expected.that.length > 0;
  if (frame === null) return asks ? [...faults, 'reached no sink: there are no results to check'] : faults;
  const known = { ...frame, ...variablesOf(frame) };
  for (const [path, wanted] of Object.entries(expected.expect)) {
    faults.push(...valueFaults(path, wanted, valueAt(known, path.split('.'))));
  }
  for (const text of expected.that) faults.push(...conditionFaults(text, frame));
  return faults;
}

function differs(what: string, expected: string | undefined, got: string | undefined): string[] {
  return expected === undefined || expected === got
    ? []
    : [`${what}: expected ${expected}, got ${got ?? 'none'}`];
}

function sinkFaults(expected: readonly string[], got: readonly string[]): string[] {
  const [wanted, came] = [new Set(expected), new Set(got)];
  return isDeepStrictEqual(wanted, came) ? [] : [`sinks: expected ${list(expected)}, got ${list(got)}`];
}

function valueFaults(path: string, wanted: z.output<typeof expectation>, got: unknown): string[] {
  if (typeof wanted !== 'object' || wanted === null) {
    return got === wanted ? [] : [`${path}: expected ${show(wanted)}, got ${show(got)}`];
  }
  if ('value' in wanted) {
    const { value, within } = wanted;
    if (typeof got === 'number' && Math.abs(got - value) <= within) return [];
    return [`${path}: expected ${value} ± ${within}, got ${show(got)}`];
  }
  const { above = -Infinity, below = Infinity } = wanted;
  if (typeof got === 'number' && got > above && got < below) return [];
  const range = [above > -Infinity ? `above ${above}` : '', below < Infinity ? `below ${below}` : ''];
  return [`${path}: expected ${range.filter(Boolean).join(' and ')}, got ${show(got)}`];
}

function conditionFaults(text: string, frame: Frame): string[] {
  try {
    return compileCondition(text)(frame) ? [] : [`\`${text}\` is false`];
  } catch (error) {
    return [messageOf(error)];
  }
}

function show(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}

function list(ids: readonly string[]): string {
  return ids.length === 0 ? 'none' : ids.join(', ');
}
