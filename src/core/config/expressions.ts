import { ExpressionSyntaxError, referencesOf, VARIABLES } from '../expression.js';
import type { YamlFile } from './document.js';
import type { Entry } from './entries.js';
import type { Issue } from './pipeline.js';
import { didYouMean } from '../suggest.js';

/** Checks the `when:` of an entry: its syntax, and the names in it. */
export function lintExpression(
  entry: Entry,
  stages: ReadonlyMap<string, Entry>,
  yaml: YamlFile,
  report: (issue: Issue) => void,
): void {
  const text = entry.host.when;
  if (text === undefined) return;
  const path = [...entry.path, 'when'];
  const complain = (severity: Issue['severity'], message: string, offset: number, length: number): void => {
    const place = yaml.inside(path, offset);
    report({ severity, code: 'CONFIG_EXPRESSION', message, ...place, length, component: entry.id });
  };
  try {
    const { variables, results } = referencesOf(text);
    for (const { name, offset } of variables) {
      if ((VARIABLES as readonly string[]).includes(name)) continue;
      const advice = didYouMean(name, VARIABLES) || ` (there are ${VARIABLES.join(', ')})`;
      complain('error', `expressions have no variable \`${name}\`${advice}`, offset, name.length);
    }
    const before = upstream(entry, stages);
    for (const { name, offset, tested } of results) {
      if (!stages.has(name)) {
        const advice = didYouMean(name, stages.keys()) || ` (there are ${[...stages.keys()].join(', ')})`;
        complain('error', `no stage has the id \`${name}\`${advice}`, offset, name.length);
      } else if (!before.has(name) && !tested) {
        const message = `frames reach this entry without passing \`${name}\`: they have no results of it`;
        complain('warning', message, offset, name.length);
      }
    }
  } catch (error) {
    if (!(error instanceof ExpressionSyntaxError)) throw error;
    complain('error', error.message, error.offset, 1);
  }
}

/** What CEL does not take for the name of a field; `constructor` by its implementation, which tells types by it. */
const RESERVED = ['in', 'true', 'false', 'null', 'constructor'];

/** What is wrong with an id that expressions cannot name; undefined if nothing is. */
export function lintId(id: string): string | undefined {
  return RESERVED.includes(id) ? `\`${id}\` is a reserved word in expressions: choose another id` : undefined;
}

function upstream(entry: Entry, stages: ReadonlyMap<string, Entry>): Set<string> {
  const found = new Set<string>();
  const visit = (name: string): void => {
    const stage = stages.get(name);
    if (stage === undefined || found.has(name)) return;
    found.add(name);
    stage.from.forEach(visit);
  };
  entry.from.forEach(visit);
  return found;
}
