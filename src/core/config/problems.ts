import { z } from 'zod';
import type { Path, YamlFile } from './document.js';
import type { Issue } from './pipeline.js';
import { nearest } from './suggest.js';

type Problem = z.core.$ZodIssue;

/**
 * What zod found wrong with the value at `base`, as issues with a place in the file: an unknown key
 * is pointed at where its key stands, a missing one at the mapping that should have it.
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
    issues.push({
      severity: 'error',
      code,
      message,
      ...place,
      ...(component === undefined ? {} : { component }),
    });
  };
  for (const problem of error.issues.flatMap(unfold)) {
    const path = [...base, ...problem.path];
    const name = optionName(path);
    if (problem.code === 'unrecognized_keys') {
      const known = keysAt(schema, problem.path);
      const where = path.length === 0 ? 'in a pipeline' : `in ${name}`;
      for (const key of problem.keys) {
        const near = nearest(key, known);
        const advice = near === undefined ? `known are ${known.join(', ')}` : `did you mean \`${near}\`?`;
        report('CONFIG_UNKNOWN_KEY', `unknown key \`${key}\` ${where}: ${advice}`, file.key([...path, key]));
      }
    } else if (
      problem.code === 'invalid_type' &&
      file.excerpt(path) === 'nothing' &&
      problem.path.length > 0
    ) {
      const about = nodeAt(schema, problem.path)?.description;
      report(
        'CONFIG_INVALID',
        `missing ${name} (${problem.expected})${about === undefined ? '' : `: ${about}`}`,
        file.parent(path),
      );
    } else {
      report('CONFIG_INVALID', `${name}: ${explain(problem, file.excerpt(path))}`, file.place(path));
    }
  }
  return issues;
}

/** Of the branches of a union, the one that came furthest says best what is wrong. */
function unfold(problem: Problem): Problem[] {
  if (problem.code !== 'invalid_union') return [problem];
  const branches = problem.errors
    .map((issues) => issues.flatMap(unfold))
    .filter(
      (issues) =>
        issues.length > 0 && issues.every((issue) => issue.path.length > 0 || issue.code !== 'invalid_type'),
    );
  const best = branches[0];
  return best === undefined
    ? [problem]
    : best.map((issue) => ({ ...issue, path: [...problem.path, ...issue.path] }) as Problem);
}

function explain(problem: Problem, found: string): string {
  switch (problem.code) {
    case 'invalid_type':
      return `expected ${article(problem.expected)}, got ${found}`;
    case 'invalid_value': {
      const values = problem.values.map(String);
      const near = nearest(found.replaceAll(/["']/g, ''), values);
      const expected = values.length === 1 ? values[0] : `one of ${values.join(', ')}`;
      return `expected ${expected}, got ${found}${near === undefined ? '' : ` (did you mean \`${near}\`?)`}`;
    }
    case 'invalid_union': {
      const kinds = new Set(
        problem.errors.flat().flatMap((issue) => {
          if (issue.code === 'invalid_type') return [article(issue.expected)];
          return issue.code === 'invalid_value' ? issue.values.map(String) : [];
        }),
      );
      return kinds.size === 0 ? `not valid: ${found}` : `expected ${[...kinds].join(' or ')}, got ${found}`;
    }
    case 'too_small':
      return `expected ${bound(problem.origin, problem.inclusive === false ? 'more than' : 'at least', problem.minimum)}, got ${found}`;
    case 'too_big':
      return `expected ${bound(problem.origin, problem.inclusive === false ? 'less than' : 'at most', problem.maximum)}, got ${found}`;
    default:
      return `${problem.message}, got ${found}`;
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
export function optionName(path: Path): string {
  if (path.length === 0) return 'the pipeline';
  const text = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('');
  return `\`${text.replace(/^\./, '')}\``;
}

/** A JSON Schema node, as far as it is read here. */
export interface SchemaNode {
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
