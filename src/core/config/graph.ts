import type { YamlFile } from './document.js';
import type { Entry } from './entries.js';
import type { Issue } from './pipeline.js';
import { didYouMean } from '../suggest.js';

/**
 * Sets `from` of every stage and sink, and reports unknown names, loops and unused stages. Returns the stages in
 * topological order.
 */
export function connect(
  sources: readonly Entry[],
  stages: readonly Entry[],
  sinks: readonly Entry[],
  yaml: YamlFile,
  report: (issue: Issue) => void,
): Entry[] {
  const outputs = new Map([...sources, ...stages].map((entry) => [entry.id, entry] as const));
  const sourceIds = [...new Set(sources.map(({ id }) => id))];

  const faults: Issue[] = [];

  const resolveFrom = (entry: Entry, above: readonly string[]): readonly string[] => {
    const { from } = entry.host;
    if (from === undefined) return above;
    const names = typeof from === 'string' ? [from] : from;
    return [...new Set(names)].filter((name) => {
      if (outputs.has(name)) return true;
      const index = names.indexOf(name);
      const path = [...entry.path, 'from', ...(typeof from === 'string' ? [] : [index])];
      const message = sinks.some(({ id }) => id === name)
        ? `\`${name}\` is a sink, which has no output`
        : `no source or stage has the id \`${name}\`${didYouMean(name, outputs.keys()) || ` (there are ${[...outputs.keys()].join(', ')})`}`;
      faults.push({
        severity: 'error',
        code: 'CONFIG_UNKNOWN_ID',
        message,
        ...yaml.place(path),
        component: entry.id,
      });
      return false;
    });
  };

  let above: readonly string[] = sourceIds;
  for (const stage of stages) {
    stage.from = resolveFrom(stage, above);
    above = [stage.id];
  }
  for (const sink of sinks) sink.from = resolveFrom(sink, above);

  const byId = new Map(stages.map((stage) => [stage.id, stage]));
  const order = sort(stages, byId, (loop) => {
    const [first] = loop;
    if (first === undefined) return;
    const message = `the graph has a loop: ${[...loop, first].map(({ id }) => id).join(' → ')}`;
    const place = yaml.place([...first.path, first.host.from === undefined ? 'use' : 'from']);
    faults.push({ severity: 'error', code: 'CONFIG_CYCLE', message, ...place, component: first.id });
  });
  // in a faulty graph, unused stages are a consequence of other errors
  if (faults.length === 0 && sinks.length > 0) {
    reportDeadEnds([...sources, ...stages], sinks, outputs, report);
  }
  faults.forEach(report);
  return order;
}

/** Depth first from each stage to its inputs, in the order of the file; each loop is reported once. */
function sort(
  stages: readonly Entry[],
  byId: ReadonlyMap<string, Entry>,
  onLoop: (loop: Entry[]) => void,
): Entry[] {
  const order = new Set<Entry>();
  const visit = (stage: Entry, trail: readonly Entry[]): void => {
    const start = trail.indexOf(stage);
    if (start >= 0) {
      // the trail goes from outputs to inputs
      const loop = trail.slice(start).reverse();
      const first = loop.indexOf(loop.reduce((a, b) => (stages.indexOf(a) < stages.indexOf(b) ? a : b)));
      onLoop([...loop.slice(first), ...loop.slice(0, first)]);
      return;
    }
    if (order.has(stage)) return;
    for (const name of stage.from) {
      const before = byId.get(name);
      if (before !== undefined) visit(before, [...trail, stage]);
    }
    order.add(stage);
  };
  for (const stage of stages) visit(stage, []);
  return [...order];
}

function reportDeadEnds(
  entries: readonly Entry[],
  sinks: readonly Entry[],
  outputs: ReadonlyMap<string, Entry>,
  report: (issue: Issue) => void,
): void {
  const useful = new Set<Entry>();
  const visit = (entry: Entry): void => {
    if (useful.has(entry)) return;
    useful.add(entry);
    for (const name of entry.from) {
      const before = outputs.get(name);
      if (before !== undefined) visit(before);
    }
  };
  sinks.forEach(visit);
  for (const entry of entries) {
    if (useful.has(entry) || outputs.get(entry.id) !== entry) continue;
    const message = `the output of \`${entry.id}\` is not used: name it in a \`from:\`, or remove it`;
    report({ severity: 'warning', code: 'CONFIG_UNUSED', message, ...entry.idPlace, component: entry.id });
  }
}
