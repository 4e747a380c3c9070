import type { HostTensor, HostTensors } from '../engine/index.js';

/** A box that a network found, in pixels of the image that it was shown. */
export interface NetworkBox {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  /** Index of the label. */
  readonly label: number;
  readonly score: number;
}

/** How boxes are chosen. */
export interface Suppression {
  /** A box counts from this score on. */
  readonly scoreThreshold: number;
  /** Of two boxes of one label that overlap more than this, the less sure one is dropped. */
  readonly iouThreshold: number;
  /** Of each image, the surest. */
  readonly maxDetections: number;
}

/** The feeds of the network that `exportRetinanet` makes, but for the images. */
export function suppressionFeeds({
  scoreThreshold,
  iouThreshold,
  maxDetections,
}: Suppression): Record<string, HostTensor> {
  return {
    scoreThreshold: { data: Float32Array.of(scoreThreshold), dims: [] },
    iouThreshold: { data: Float32Array.of(iouThreshold), dims: [] },
    maxDetections: { data: BigInt64Array.of(BigInt(maxDetections)), dims: [] },
  };
}

/**
 * A network's boxes by image, the surest first. Throws where the outputs are not those of a detector.
 *
 * @param outputs `boxes` [D,4] as corners, `scores` [D], `labels` [D], and where there are several images `films` [D].
 */
export function boxesByImage(
  { boxes, scores, labels, films }: HostTensors,
  images: number,
  maxDetections: number,
): NetworkBox[][] {
  const count = scores?.data.length ?? 0;
  if (boxes?.data.length !== 4 * count || labels?.data.length !== count || scores === undefined) {
    throw new Error(
      `the network gives ${count} scores, ${boxes?.data.length ?? 0} / 4 boxes and ${labels?.data.length ?? 0} labels`,
    );
  }
  const found: NetworkBox[][] = Array.from({ length: images }, () => []);
  for (let i = 0; i < count; i++) {
    const [x0, y0, x1, y1] = [0, 1, 2, 3].map((k) => Number(boxes.data[4 * i + k])) as [
      number,
      number,
      number,
      number,
    ];
    found[Number(films?.data[i] ?? 0)]?.push({
      ...{ x: x0, y: y0, width: x1 - x0, height: y1 - y0 },
      label: Number(labels.data[i]),
      score: Number(scores.data[i]),
    });
  }
  return found.map((each) => each.sort((a, b) => b.score - a.score).slice(0, maxDetections));
}
