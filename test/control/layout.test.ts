import { expect } from 'chai';
import { layOut, type ArrowShape, type Point, type Size } from '../../src/control/layout.js';

const SPACING = { nodesep: 22, ranksep: 40, margin: 2 };
const NAMES = ['watch', 'decode', 'clahe', 'large', 'classes', 'small', 'anomaly', 'join', 'csv'];
/** Widths differ, as on the command line. */
const BOXES = new Map(NAMES.map((id, i): [string, Size] => [id, { width: 120 + 30 * (i % 4), height: 84 }]));
/** A graph with two branches and three long arrows, one of them with a label. */
const ARROWS: readonly ArrowShape[] = [
  ...['watch decode', 'decode clahe', 'clahe large', 'large classes', 'classes join', 'join csv'],
  ...['clahe small', 'small anomaly', 'anomaly join', 'decode join', 'watch csv'],
]
  .map((pair): ArrowShape => ({ from: pair.split(' ')[0] ?? '', to: pair.split(' ')[1] ?? '' }))
  .concat({ from: 'clahe', to: 'csv', label: { width: 150, height: 20 } });

/** Points of a path of M, C and H commands, 20 for each curve and line. */
function pointsOf(path: string): Point[] {
  let here: Point = { x: 0, y: 0 };
  return [...path.matchAll(/([MCH])([^MCH]*)/g)].flatMap(([, command = '', rest = '']) => {
    const n = rest.trim().split(/[ ,]+/).map(Number);
    const { x, y } = here;
    if (command === 'H') here = { x: n[0] ?? 0, y };
    else here = { x: n.at(-2) ?? 0, y: n.at(-1) ?? 0 };
    if (command === 'M') return [];
    const [x1 = x, y1 = y, x2 = here.x, y2 = here.y] = command === 'C' ? n : [];
    const mix = (t: number, a: number, b: number, c: number, d: number): number =>
      (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t ** 2 * c + t ** 3 * d;
    return Array.from({ length: 21 }, (_, i) => ({
      x: mix(i / 20, x, x1, x2, here.x),
      y: mix(i / 20, y, y1, y2, here.y),
    }));
  });
}

describe('the picture of a graph', () => {
  const { boxes, arrows, width, height } = layOut(BOXES, ARROWS, SPACING);

  it('has every box inside, right of those that arrows come from', () => {
    for (const [id, { x, y }] of boxes) {
      const size = BOXES.get(id) ?? expect.fail(id);
      expect(x, id).to.be.within(size.width / 2, width - size.width / 2);
      expect(y, id).to.be.within(size.height / 2, height - size.height / 2);
    }
    for (const { from, to } of ARROWS)
      expect(boxes.get(from)?.x, `${from}, ${to}`).to.be.below(boxes.get(to)?.x ?? 0);
  });

  it('draws no arrow behind a box, also not a long one', () => {
    expect(arrows).to.have.length(ARROWS.length);
    arrows.forEach(({ path }, i) => {
      for (const [id, { x, y }] of boxes) {
        const { width: across = 0, height: down = 0 } = BOXES.get(id) ?? {};
        const behind = pointsOf(path).filter(
          (point) => Math.abs(point.x - x) < across / 2 - 1 && Math.abs(point.y - y) < down / 2 - 1,
        );
        expect(behind, `${JSON.stringify(ARROWS[i])} behind ${id}`).to.deep.equal([]);
      }
    });
  });

  it('draws an arrow through its label', () => {
    const { path, label } = arrows.at(-1) ?? expect.fail();
    const nearest = Math.min(...pointsOf(path).map(({ x, y }) => Math.hypot(x - label.x, y - label.y)));
    expect(nearest).to.be.below(10);
  });
});
