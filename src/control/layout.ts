import * as dagre from '@dagrejs/dagre';

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** An arrow between two boxes; `label`: the room for its text. */
export interface ArrowShape {
  readonly from: string;
  readonly to: string;
  readonly label?: Size | undefined;
}

/** Places in pixels of the picture. */
export interface Layout extends Size {
  /** The middle of each box. */
  readonly boxes: ReadonlyMap<string, Point>;
  /** In the order of the arrows: a path as in SVG, which passes no box between its ends, and the middle of the label. */
  readonly arrows: readonly { readonly path: string; readonly label: Point }[];
}

/** The part of dagre that is used: its own declarations do not resolve under NodeNext (imports without extensions). */
interface Dagre {
  Graph: new (options: { multigraph: boolean }) => DagreGraph;
  layout: (graph: DagreGraph) => void;
}
interface DagreGraph {
  setGraph(label: object): void;
  setNode(id: string, label: object): void;
  setEdge(from: string, to: string, label: object, name: string): void;
  graph(): Partial<Size>;
  node(id: string): Point & Size;
  edge(from: string, to: string, name: string): Partial<Point> & { points: Point[] };
}
const { Graph, layout } = dagre as unknown as Dagre;

/** Boxes by their id in columns from left to right, each right of those that arrows come from. */
export function layOut(
  boxes: ReadonlyMap<string, Size>,
  arrows: readonly ArrowShape[],
  spacing: { readonly nodesep: number; readonly ranksep: number; readonly margin: number },
): Layout {
  const { margin, ...gaps } = spacing;
  const graph = new Graph({ multigraph: true });
  graph.setGraph({ rankdir: 'LR', edgesep: 18, marginx: margin, marginy: margin, ...gaps });
  for (const [id, size] of boxes) graph.setNode(id, { ...size });
  arrows.forEach(({ from, to, label }, i) => {
    graph.setEdge(from, to, label === undefined ? {} : { ...label, labelpos: 'c' }, String(i));
  });
  layout(graph);

  const placed = [...boxes.keys()].map((id) => graph.node(id));
  /** Half the width of the column whose middle is at `x`; null between the columns. */
  const halfAt = (x: number): number | null => {
    const widths = placed.filter((box) => Math.abs(box.x - x) < 1).map(({ width }) => width);
    return widths.length === 0 ? null : Math.max(...widths) / 2;
  };
  const { width = 0, height = 0 } = graph.graph();
  return {
    width,
    height,
    boxes: new Map([...boxes.keys()].map((id, i) => [id, placed[i] ?? { x: 0, y: 0 }])),
    arrows: arrows.map(({ from, to, label }, i) => {
      const [start, end] = [graph.node(from), graph.node(to)];
      const { points, x = 0, y = 0 } = graph.edge(from, to, String(i));
      // Level past the boxes of each column between, and through the label.
      const level = points.slice(1, -1).flatMap((point) => {
        const half =
          halfAt(point.x) ?? (label !== undefined && Math.abs(point.x - x) < 1 ? label.width / 2 : null);
        return half === null ? [] : [{ from: point.x - half, to: point.x + half, y: point.y }];
      });
      const last = { from: end.x - end.width / 2, to: end.x - end.width / 2, y: end.y };
      return {
        path: pathOf({ x: start.x + start.width / 2, y: start.y }, [...level, last]),
        label: { x, y },
      };
    }),
  };
}

/** From a point through level parts, bent between them. */
function pathOf(
  start: Point,
  level: readonly { readonly from: number; readonly to: number; readonly y: number }[],
): string {
  const parts = [`M${at(start.x)} ${at(start.y)}`];
  let { x, y } = start;
  for (const part of level) {
    const middle = at((x + part.from) / 2);
    parts.push(`C${middle} ${at(y)} ${middle} ${at(part.y)} ${at(part.from)} ${at(part.y)}`);
    if (part.to > part.from) parts.push(`H${at(part.to)}`);
    [x, y] = [part.to, part.y];
  }
  return parts.join('');
}

/** To a tenth of a pixel. */
function at(value: number): number {
  return Math.round(value * 10) / 10;
}
