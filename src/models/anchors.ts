/** Boxes as `x0, y0, x1, y1` in pixels, one after the other. */
export type Corners = Float32Array;

/** Pyramid levels P3–P7: one feature pixel for every 8, 16, 32, 64, 128 pixels of the image. */
export const PYRAMID_LEVELS = 5;
/** Anchors at each place: three sizes of three shapes. */
export const ANCHORS_PER_PLACE = 9;
const OCTAVES = 3;
/** Height ÷ width. */
const RATIOS = [0.5, 1, 2];
const FIRST_STRIDE = 8;

/** Side of each level's grid for images of `inputSize` pixels, from P3 to P7. */
export function gridSizes(inputSize: number): number[] {
  return Array.from({ length: PYRAMID_LEVELS }, (_, level) =>
    Math.ceil(inputSize / (FIRST_STRIDE * 2 ** level)),
  );
}

/**
 * The anchors of square images, level by level, row by row, at each place by shape and then by size: those of
 * torchvision's `AnchorGenerator` as its RetinaNet sets it up, rounded to whole pixels as there.
 *
 * @param smallest Side of the smallest square anchor at P3 (torchvision: 32); doubled at each level. The other sizes of a
 *   level are 2^(1/3) and 2^(2/3) times as large.
 */
export function anchorsOf(inputSize: number, smallest: number): Corners {
  const grids = gridSizes(inputSize);
  const places = grids.reduce((sum, side) => sum + side * side, 0);
  const anchors = new Float32Array(places * ANCHORS_PER_PLACE * 4);
  let at = 0;
  grids.forEach((side, level) => {
    const stride = Math.floor(inputSize / side);
    const shapes = shapesOf(smallest * 2 ** level);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        for (const [x0, y0, x1, y1] of shapes) {
          anchors.set([x * stride + x0, y * stride + y0, x * stride + x1, y * stride + y1], at);
          at += 4;
        }
      }
    }
  });
  return anchors;
}

/** The nine anchors around the origin. */
function shapesOf(base: number): (readonly [number, number, number, number])[] {
  const sizes = Array.from({ length: OCTAVES }, (_, octave) => Math.trunc(base * 2 ** (octave / OCTAVES)));
  return RATIOS.flatMap((ratio) => {
    const high = Math.fround(Math.sqrt(ratio));
    const wide = Math.fround(1 / high);
    return sizes.map((size) => {
      const [right, bottom] = [roundHalfEven((wide * size) / 2), roundHalfEven((high * size) / 2)];
      return [-right, -bottom, right, bottom] as const;
    });
  });
}

function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}
