import type { Pipeline, StageNode } from '../config/pipeline.js';

/**
 * The stages in segments: runs of stages in a chain that a worker thread does in one task. All others (stages on the
 * main thread, with several consumers or inputs, or with a `concurrency:` of their own) stand alone. In the order of
 * their first stages.
 */
export function segmentsOf({ stages, sinks }: Pick<Pipeline, 'stages' | 'sinks'>): StageNode[][] {
  const consumers = [...stages, ...sinks].flatMap(({ from }) => from);
  const segments: StageNode[][] = [];
  for (const node of stages) {
    const before = segments.find((segment) => isBehind(node, segment.at(-1)));
    if (before === undefined) segments.push([node]);
    else before.push(node);
  }
  return segments;

  function isBehind(node: StageNode, last: StageNode | undefined): boolean {
    return (
      last !== undefined &&
      node.from.length === 1 &&
      node.from[0] === last.id &&
      consumers.filter((id) => id === last.id).length === 1 &&
      [node, last].every(({ plugin, concurrency }) => plugin.runsIn !== 'main' && concurrency === undefined)
    );
  }
}
