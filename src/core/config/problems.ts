import { z } from 'zod';
import type { Path, YamlFile } from './document.js';
import type { Issue } from './pipeline.js';
import { nearest } from '../suggest.js';
import { valueAt } from '../value-at.js';

type Problem = z.core.$ZodIssue;

/**
 * Errors of zod for the value at `base`, as issues with positions: an unknown key has the position of the key, a
 * missing one that of the mapping that should have it.
 */
export function schemaIssues(
  file: YamlFile,
  base: Path,
  schema: z.ZodType,
  error: z.ZodError,
  component?: string,
): Issue[] {
  const issues: Issue[] = [];
  const report = (code: Issue['code'], message: string, place: Pick<Issue, 'location' | 'length'>): void => {
    issues.push({ severity: 'error', code, message, ...place, component });
  };
  for (const problem of error.issues.flatMap(unfold)) {
    const path = [...base, ...problem.path];
    const name = optionName(path);
    if (problem.code === 'unrecognized_keys') {
      const known = keysAt(schema, problem.path);
      const where = path.length === 0 ? 'at the top level' : `in ${name}`;
      for (const key of problem.keys) {
        const near = nearest(key, known);
        const others = known.length === 0 ? 'it takes none' : `known are ${known.join(', ')}`;
        const advice = near === undefined ? others : `did you mean \`${near}\`?`;
        report('CONFIG_UNKNOWN_KEY', `unknown key \`${key}\` ${where}: ${advice}`, file.key([...path, key]));
      }
      continue;
    }
    const found = file.excerpt(path);
    const expected = expectedBy(problem);
    if (expected === undefined) {
      report('CONFIG_INVALID', `${name}: ${problem.message}, got ${found}`, file.place(path));
    } else if (found === 'nothing' && problem.path.length > 0) {
      const about = nodeAt(schema, problem.path)?.description;
      const message = `missing ${name}, ${expected}${about === undefined ? '' : `: ${about}`}`;
      report('CONFIG_INVALID', message, file.parent(path));
    } else {
      const near =
        problem.code === 'invalid_value'
          ? nearest(found.replaceAll(/["']/g, ''), problem.values.map(String))
          : undefined;
      const advice = near === undefined ? '' : ` (did you mean \`${near}\`?)`;
      report('CONFIG_INVALID', `${name}: expected ${expected}, got ${found}${advice}`, file.place(path));
    }
  }
  return issues;
}

/**
 * Parses the value at `base`. Environment variables are text: where the schema expects a number or a boolean, the text
 * of a variable is converted.
 */
export function parseAt<S extends z.ZodType>(
  file: YamlFile,
  base: Path,
  schema: S,
  value: unknown,
): z.ZodSafeParseResult<z.output<S>> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed;
  const copy: unknown = structuredClone(value);
  for (const problem of parsed.error.issues) {
    if (problem.code !== 'invalid_type' || !file.isSubstituted([...base, ...problem.path])) continue;
    const last = problem.path.at(-1);
    const parent = valueAt(copy, problem.path.slice(0, -1));
    const typed = typedAs(problem.expected, valueAt(copy, problem.path));
    if (typed !== undefined) Object.assign(parent as object, { [last as string]: typed });
  }
  return schema.safeParse(copy);
}

function typedAs(expected: string, value: unknown): number | boolean | undefined {
  if (typeof value !== 'string') return undefined;
  if (expected === 'boolean' && (value === 'true' || value === 'false')) return value === 'true';
  if (
    (expected === 'number' || expected === 'int') &&
    value.trim() !== '' &&
    Number.isFinite(Number(value))
  ) {
    return Number(value);
  }
  return undefined;
}

/** The errors of the union's branch that matched furthest. */
function unfold(problem: Problem): Problem[] {
  if (problem.code !== 'invalid_union') return [problem];
  const branches = problem.errors
    .map((issues) => issues.flatMap(unfold))
    .filter((issues) => issues.length > 0 && !issues.some(isOtherKind));
  const best = branches[0];
  return best === undefined
    ? [problem]
    : best.map((issue) => ({ ...issue, path: [...problem.path, ...issue.path] }));
}

/** Whether the value has another type than this branch of a union. */
function isOtherKind({ code, path }: Problem): boolean {
  return (
    path.length === 0 && (code === 'invalid_type' || code === 'invalid_value' || code === 'invalid_union')
  );
}

/** The expected value in words; undefined where zod's own message is used. */
function expectedBy(problem: Problem): string | undefined {
  switch (problem.code) {
    case 'invalid_type':
      return article(problem.expected);
    case 'invalid_value': {
      const values = problem.values.map(String);
      return values.length === 1 ? values[0] : `one of ${values.join(', ')}`;
    }
    case 'invalid_union': {
      const kinds = problem.errors.flat().flatMap((issue) => expectedBy(issue) ?? []);
      return kinds.length === 0 ? undefined : [...new Set(kinds)].join(' or ');
    }
    case 'too_small':
      return bound(problem.origin, problem.inclusive === false ? 'more than' : 'at least', problem.minimum);
    case 'too_big':
      return bound(problem.origin, problem.inclusive === false ? 'less than' : 'at most', problem.maximum);
    default:
      return undefined;
  }
}

function bound(origin: string, words: string, limit: number | bigint): string {
  const unit = { string: ' characters', array: ' entries', object: ' keys' }[origin] ?? '';
  return `${words} ${limit}${limit === 1 && unit !== '' ? unit.replace(/ies$|s$/, (end) => (end === 'ies' ? 'y' : '')) : unit}`;
}

const PLAIN: Readonly<Record<string, string>> = {
  int: 'a whole number',
  object: 'a mapping (key: value)',
  record: 'a mapping (key: value)',
  array: 'a list',
  tuple: 'a list',
  boolean: 'true or false',
  null: 'null',
};

function article(type: string): string {
  return PLAIN[type] ?? `a ${type}`;
}

/** `` `stages[2].with.clipLimit` ``, or `the pipeline` for the whole file. */
function optionName(path: Path): string {
  if (path.length === 0) return 'the pipeline';
  const text = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('');
  return `\`${text.replace(/^\./, '')}\``;
}

/** The part of a JSON Schema node that is read here. */
interface SchemaNode {
  readonly description?: string;
  readonly type?: string;
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly items?: SchemaNode;
  readonly anyOf?: readonly SchemaNode[];
}

function nodeAt(schema: z.ZodType, path: Path): SchemaNode | undefined {
  let nodes: SchemaNode[] = [z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as SchemaNode];
  for (const step of path) {
    nodes = nodes
      .flatMap((node) => [node, ...(node.anyOf ?? [])])
      .flatMap((node) => (typeof step === 'number' ? node.items : node.properties?.[String(step)]) ?? []);
  }
  return nodes[0];
}

function keysAt(schema: z.ZodType, path: Path): string[] {
  const node = nodeAt(schema, path);
  const keys = [node, ...(node?.anyOf ?? [])].flatMap((branch) => Object.keys(branch?.properties ?? {}));
  return [...new Set(keys)];
}
