import { createRequire } from 'node:module';
import { messageOf, RxrayError } from './errors.js';
import type { Frame } from './frame.js';
import { verdictOf } from './verdict.js';

type Cel = typeof import('@bufbuild/cel');

const require = createRequire(import.meta.url);
/** Loaded with the first expression: its 150 modules would take a fifth of the start of a graph without expressions. */
const cel = (): Cel => require('@bufbuild/cel') as Cel;

/** The variables of expressions. */
export const VARIABLES = ['id', 'file', 'origin', 'meta', 'results', 'verdict'] as const;

/** Their values for a frame. */
export function variablesOf({
  id,
  origin,
  meta,
  results,
}: Frame): Readonly<Record<(typeof VARIABLES)[number], unknown>> {
  return { id, file: origin.name, origin, meta, results, verdict: verdictOf(results) };
}

/** A syntax error in an expression, `offset` characters from its start. */
export class ExpressionSyntaxError extends RxrayError {
  constructor(
    message: string,
    readonly offset: number,
  ) {
    super('CONFIG_EXPRESSION', message);
  }
}

/**
 * Compiles a CEL expression over `id`, `file` (the path inside the source), `origin`, `meta`, `results` (by stage id)
 * and `verdict`. Numbers of a frame are CEL doubles: `meta.width * 2.0`, not `* 2`; comparisons mix freely. The
 * compiled function returns plain data, and throws FRAME_EXPRESSION where the evaluation fails (a missing field, a
 * wrong type).
 *
 * Throws {@link ExpressionSyntaxError}. Source: the Common Expression Language, https://cel.dev.
 */
export function compileExpression(text: string): (frame: Frame) => unknown {
  const { celEnv, isCelError, plan } = cel();
  const evaluate = plan(celEnv(), parsed(text));
  return (frame) => {
    // CEL reports an evaluation error by returning it, and an error object is truthy
    const value = evaluate(variablesOf(frame) as never);
    if (isCelError(value)) {
      throw new RxrayError('FRAME_EXPRESSION', `\`${text}\` failed: ${value.message}`, { cause: value });
    }
    return toPlain(value);
  };
}

/** The error of an expression; undefined if there is none. */
export function expressionFault(text: string): string | undefined {
  try {
    compileExpression(text);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** Compiles a `when:`. The function also throws FRAME_EXPRESSION if the value is not true or false. */
export function compileCondition(text: string): (frame: Frame) => boolean {
  const evaluate = compileExpression(text);
  return (frame) => {
    const value = evaluate(frame);
    if (typeof value === 'boolean') return value;
    throw new RxrayError(
      'FRAME_EXPRESSION',
      `\`${text}\` should be true or false, it is ${JSON.stringify(value)}`,
    );
  };
}

/** A name in an expression, and its position. */
export interface Reference {
  readonly name: string;
  /** In characters from the start of the expression. */
  readonly offset: number;
}

export interface References {
  /** Variables, except those bound by a macro (`xs.all(x, …)`). */
  readonly variables: readonly Reference[];
  /** Stages whose results it reads: `results.ID` or `results["ID"]`. */
  readonly results: readonly (Reference & {
    /** Whether it is only tested by `has(results.ID)`. */ readonly tested: boolean;
  })[];
}

/** The variables and results that an expression refers to. Throws {@link ExpressionSyntaxError}. */
export function referencesOf(text: string): References {
  const { expr, sourceInfo } = parsed(text);
  const variables: Reference[] = [];
  const results: { name: string; offset: number; tested: boolean }[] = [];
  const offsetOf = (id: bigint): number => sourceInfo?.positions[String(id)] ?? 0;

  const visit = (node: Expression | undefined, bound: ReadonlySet<string>): void => {
    if (node === undefined) return;
    const { case: kind, value } = node.exprKind;
    switch (kind) {
      case 'identExpr':
        if (!bound.has(value.name)) variables.push({ name: value.name, offset: offsetOf(node.id) });
        return;
      case 'selectExpr': {
        if (isResults(value.operand, bound)) {
          const offset = text.indexOf(value.field, offsetOf(value.operand?.id ?? node.id) + 'results'.length);
          results.push({ name: value.field, offset: Math.max(0, offset), tested: value.testOnly });
        }
        visit(value.operand, bound);
        return;
      }
      case 'callExpr': {
        const [target, key] = value.args;
        if (value.function === '_[_]' && isResults(target, bound) && key?.exprKind.case === 'constExpr') {
          const constant = key.exprKind.value.constantKind;
          if (constant.case === 'stringValue') {
            results.push({ name: constant.value, offset: offsetOf(key.id) + 1, tested: false });
          }
        }
        visit(value.target, bound);
        for (const argument of value.args) visit(argument, bound);
        return;
      }
      case 'listExpr':
        for (const element of value.elements) visit(element, bound);
        return;
      case 'structExpr':
        for (const { keyKind, value: entry } of value.entries) {
          if (keyKind.case === 'mapKey') visit(keyKind.value, bound);
          visit(entry, bound);
        }
        return;
      case 'comprehensionExpr': {
        visit(value.iterRange, bound);
        visit(value.accuInit, bound);
        const inner = new Set([...bound, value.iterVar, value.iterVar2, value.accuVar]);
        for (const part of [value.loopCondition, value.loopStep, value.result]) visit(part, inner);
        return;
      }
      default:
    }
  };
  visit(expr, new Set());
  return { variables, results };
}

type Expression = ReturnType<Cel['parse']>['expr'];

function isResults(node: Expression | undefined, bound: ReadonlySet<string>): boolean {
  return (
    node?.exprKind.case === 'identExpr' && node.exprKind.value.name === 'results' && !bound.has('results')
  );
}

function parsed(text: string): ReturnType<Cel['parse']> {
  try {
    return cel().parse(text);
  } catch (error) {
    const { found, location } = error as { found?: string; location?: { start: { offset: number } } };
    // the parser's own message lists every possible token
    const message =
      location === undefined ? messageOf(error) : found ? `unexpected \`${found}\`` : 'unexpected end';
    const offset = location?.start.offset ?? 0;
    throw new ExpressionSyntaxError(`the expression does not parse: ${message}`, offset);
  }
}

/** CEL's maps, lists and integers as those of JavaScript. */
function toPlain(value: unknown): unknown {
  const { isCelList, isCelMap, isCelUint } = cel();
  if (typeof value === 'bigint') return Number(value);
  if (isCelUint(value)) return Number(value.value);
  if (isCelList(value)) return [...value].map(toPlain);
  if (isCelMap(value))
    return Object.fromEntries([...value].map(([key, entry]) => [String(toPlain(key)), toPlain(entry)]));
  return value;
}
