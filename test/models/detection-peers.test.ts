import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { anchorsOf } from '../../src/models/anchors.js';
import { decodeBoxes, encodeBoxes, matchAnchors } from '../../src/models/box-coding.js';
import { focalLoss, giouLoss, smoothL1 } from '../../src/models/detection-losses.js';
import { detectionFigures, type DetectedFilm } from '../../src/training/evaluation/detection-figures.js';
import { useCpuBackend } from '../engine/support.js';

/** What `fixtures/make_detection.py` writes: the answers of torchvision and pycocotools. */
interface Peers {
  readonly anchors: { readonly inputSize: number; readonly smallest: number; readonly corners: number[] };
  readonly matches: { readonly boxes: number[]; readonly matches: number[] };
  readonly coding: Readonly<Record<'anchors' | 'boxes' | 'encoded' | 'deltas' | 'decoded', number[]>>;
  readonly focal: Loss & { readonly logits: number[]; readonly targets: number[] };
  readonly smoothL1: Loss;
  readonly giou: Loss;
  readonly films: DetectedFilm[];
  readonly labels: string[];
  /** Null where pycocotools is missing. */
  readonly figures:
    | (Readonly<Record<'map' | 'map50' | 'mapRsna', number>> & {
        readonly perLabel: Readonly<Record<string, number>>;
      })
    | null;
}
interface Loss {
  readonly value: number[];
  readonly gradient: number[];
}

const FIXTURE = new URL('../../fixtures/detection/peers.json', import.meta.url);
const SCRIPT = fileURLToPath(new URL('../../fixtures/make_detection.py', import.meta.url));
const PYTHON = process.env['RXRAY_PYTHON'] ?? '/usr/bin/python3';
const floats = (values: readonly number[]): Float32Array => Float32Array.from(values);

describe('the parts of a RetinaNet, as torchvision and pycocotools have them', () => {
  before(useCpuBackend);

  let recorded: Peers;
  before(async () => {
    recorded = JSON.parse(await readFile(FIXTURE, 'utf8')) as Peers;
  });

  compare('as recorded', () => recorded);

  describe('asked now, with other numbers', () => {
    let live: Peers;
    before(function () {
      this.timeout(120_000);
      const { status, stdout } = spawnSync(PYTHON, [SCRIPT, '7'], { encoding: 'utf8', maxBuffer: 2 ** 26 });
      if (status !== 0) {
        console.log('      skipped: needs torchvision (RXRAY_PYTHON names a Python that has it)');
        this.skip();
      }
      live = JSON.parse(stdout) as Peers;
    });
    compare('live', () => live);
  });
});

function compare(title: string, peers: () => Peers): void {
  describe(title, () => {
    it('anchors', () => {
      const { inputSize, smallest, corners } = peers().anchors;
      expect([...anchorsOf(inputSize, smallest)]).to.deep.equal(corners);
    });

    it('which anchor has which box', () => {
      const { boxes, matches } = peers().matches;
      const anchors = floats(peers().anchors.corners);
      expect([...matchAnchors(anchors, floats(boxes))]).to.deep.equal(matches);
    });

    it('boxes as offsets from anchors, and back', () => {
      const { anchors, boxes, encoded, deltas, decoded } = peers().coding;
      expectClose(encodeBoxes(floats(boxes), floats(anchors)), encoded, 1e-5);
      expectClose(decodeBoxes(floats(deltas), floats(anchors)), decoded, 1e-5);
    });

    it('focal loss and its gradient', () => {
      const { logits, targets, ...loss } = peers().focal;
      const at = tf.tensor1d(targets);
      expectLoss((x) => focalLoss(x, at as tf.Tensor), tf.tensor1d(logits), loss);
    });

    it('smooth L1 and its gradient', () => {
      const { deltas, encoded } = peers().coding;
      const truth = tf.tensor1d(encoded);
      expectLoss((x) => smoothL1(x, truth as tf.Tensor, 1 / 9), tf.tensor1d(deltas), peers().smoothL1);
    });

    it('GIoU loss and its gradient', () => {
      const { anchors, boxes } = peers().coding;
      const truth = tf.tensor3d(anchors, [1, anchors.length / 4, 4]);
      const found = tf.tensor3d(boxes, [1, boxes.length / 4, 4]);
      expectLoss((x) => giouLoss(x as tf.Tensor3D, truth), found, peers().giou);
    });

    it('mean average precision, to 1e-6', function () {
      const { films, labels, figures } = peers();
      if (figures === null) {
        console.log('      skipped: needs pycocotools');
        this.skip();
      }
      const mine = detectionFigures(films, labels);
      for (const name of ['map', 'map50', 'mapRsna'] as const) {
        expect(mine[name], name).to.be.closeTo(figures[name], 1e-6);
      }
      for (const label of labels) {
        expect(mine.perLabel[label], label).to.be.closeTo(figures.perLabel[label] ?? NaN, 1e-6);
      }
    });
  });
}

function expectLoss(loss: (x: tf.Tensor) => tf.Tensor, at: tf.Tensor, expected: Loss): void {
  expectClose(loss(at).dataSync(), expected.value, 1e-5);
  expectClose(
    tf
      .grad((x: tf.Tensor) => tf.sum(loss(x)))(at)
      .dataSync(),
    expected.gradient,
    1e-4,
  );
}

/** Within `tolerance` of the value, relative where it is above 1. */
function expectClose(found: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  expect(found.length).to.equal(expected.length);
  expected.forEach((value, i) => {
    expect(found[i]).to.be.closeTo(value, tolerance * Math.max(1, Math.abs(value)));
  });
}
