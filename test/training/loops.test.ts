import { expect } from 'chai';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Engine } from '../../src/engine/index.js';
import { trainAnogan, scoreFilms, type AnoganEpoch, type AnoganSettings } from '../../src/training/anogan.js';
import { CHEST_AUGMENTATION, NO_AUGMENTATION } from '../../src/training/augment.js';
import {
  classifierMetrics,
  trainClassifier,
  type ClassifierData,
  type ClassifierEpoch,
  type ClassifierSettings,
} from '../../src/training/classifier.js';
import { suiteScore } from '../../src/training/select-shifts.js';
import type { TrainingHooks } from '../../src/training/hooks.js';
import { seededRandom } from '../../src/models/random.js';
import { largestDifference } from '../support/tensors.js';

/** Films whose class is where they are bright: nowhere, on the right, below. */
function toyFilms(count: number, side: number): { data: Uint8Array; labels: Uint8Array } {
  const random = seededRandom(9);
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 3);
  const data = Uint8Array.from({ length: count * side * side }, (_, i) => {
    const label = labels[Math.floor(i / (side * side))];
    const x = i % side;
    const y = Math.floor(i / side) % side;
    const bright = (label === 1 && x > side / 2) || (label === 2 && y > side / 2);
    return random() * 60 + (bright ? 150 : 0);
  });
  return { data, labels };
}

describe('training loops', () => {
  let engine: Engine;
  let dir: string;
  before(() => {
    engine = new Engine({ threads: () => 1 });
  });
  after(() => engine.dispose());
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-loops-'));
  });
  afterEach(() => rm(dir, { recursive: true }));

  describe('of the classifier', () => {
    const side = 32;
    const { data, labels } = toyFilms(60, side);
    const index = Uint32Array.from(labels.keys());
    const toy: ClassifierData = {
      films: { data, width: side, height: side, channels: 1 },
      classes: ['dark', 'right', 'below'],
      train: { index: index.subarray(0, 48), label: labels.subarray(0, 48) },
      val: { index: index.subarray(48), label: labels.subarray(48) },
    };
    const settings: ClassifierSettings = {
      depth: 18,
      width: 4,
      head: 'dense128',
      standardize: false,
      dropout: 0.3,
      frozenBase: false,
      epochs: 4,
      batchSize: 12,
      optimizer: 'sgd',
      nesterov: true,
      learningRate: 0.1,
      schedule: 'cosine',
      weightDecay: 1e-4,
      warmupEpochs: 1,
      labelSmoothing: 0.1,
      mixUp: 0.2,
      classWeights: true,
      patience: 10,
      seed: 1,
      augmentation: { ...CHEST_AUGMENTATION, cutOut: 0 },
    };
    const run = (
      hooks: Partial<TrainingHooks<ClassifierEpoch>> = {},
      other: Partial<ClassifierSettings> = {},
    ) => trainClassifier(engine, toy, { ...settings, ...other }, { checkpointDir: dir, ...hooks });

    it('learns what tells the classes apart', async () => {
      const { history, probabilities, bestEpoch } = await run({}, { epochs: 8 });
      const best = history[bestEpoch - 1];
      expect(best?.valBalancedAccuracy).to.be.above(0.9);
      expect(history.at(-1)?.loss).to.be.below((history[0]?.loss ?? 0) * 0.8);
      const metrics = classifierMetrics(probabilities, toy.val.label, toy.classes);
      expect(metrics.balancedAccuracy).to.equal(best?.valBalancedAccuracy);
    });

    it('selects the epoch with the best figures under shifts, by option', async () => {
      const val = data.slice(48 * side * side);
      const shifted = [
        { name: 'as they are', films: { ...toy.films, data: val } },
        { name: 'inverted', films: { ...toy.films, data: val.map((level) => 255 - level) } },
      ];
      const classes = ['normal', 'right', 'below'];
      const { history, bestEpoch } = await trainClassifier(
        engine,
        { ...toy, classes, shifted },
        { ...settings, select: 'shifts' },
        { checkpointDir: dir },
      );
      const scores = history.map(({ valBalancedAccuracy, worst }) =>
        suiteScore(valBalancedAccuracy, worst ?? expect.fail()),
      );
      expect(scores.indexOf(Math.max(...scores))).to.equal(bestEpoch - 1);
      expect(history.at(-1)?.worst?.auroc?.shift).to.equal('inverted');
    });

    it('returns the last epoch without a selection, by option', async () => {
      const { bestEpoch, history, probabilities } = await run({}, { select: 'last', epochs: 2 });
      expect(bestEpoch).to.equal(0);
      expect(history).to.have.length(2);
      const { balancedAccuracy } = classifierMetrics(probabilities, toy.val.label, toy.classes);
      expect(balancedAccuracy).to.equal(history.at(-1)?.valBalancedAccuracy);
    });

    it('interrupted within an epoch and resumed, arrives at the same weights', async () => {
      const whole = await run();
      const abort = new AbortController();
      const first = await run({
        signal: abort.signal,
        onStep: (done, _total, epoch) => {
          if (epoch === 2 && done === 3) abort.abort();
        },
      });
      expect(first.interrupted).to.equal(true);
      const second = await run({ resume: true });
      expect(second.history.map(({ seconds: _, idle: _idle, ...row }) => row)).to.deep.equal(
        whole.history.map(({ seconds: _, idle: _idle, ...row }) => row),
      );
      expect(largestDifference(second.parameters, whole.parameters)).to.be.below(1e-6);
    });

    it('refuses to resume with other settings', async () => {
      await run({}, { epochs: 1 });
      const error = await run({ resume: true }, { epochs: 1, seed: 2 }).catch((e: unknown) => e);
      expect(error).to.include({ code: 'TRAINING_RESUME' });
    });

    it('stops at its deadline with a result', async () => {
      const outcome = await run({ deadline: Date.now() - 1 });
      expect(outcome.history).to.have.length(0);
      expect(outcome.interrupted).to.equal(false);
      expect(Object.keys(outcome.parameters)).to.include('head/logits/kernel');
    });

    it('stops early if the validation does not improve', async () => {
      const outcome = await run({}, { epochs: 9, patience: 1, learningRate: 0 });
      expect(outcome.history).to.have.length(outcome.bestEpoch + 1);
      expect(outcome.bestEpoch).to.be.below(8);
    });
  });

  describe('of the AnoGAN', () => {
    const { data } = toyFilms(30, 64);
    const films = { data, width: 64, height: 64, channels: 1 };
    const settings: AnoganSettings = {
      width: 4,
      epochs: 2,
      batchSize: 4,
      learningRate: 0.0002,
      realLabel: 0.9,
      seed: 1,
      augmentation: NO_AUGMENTATION,
      search: { steps: 3, lambda: 0.1, learningRate: 0.05, restarts: 2 },
      refineSteps: 2,
      encoderLambda: 0.1,
      evaluateEvery: 1,
    };
    const where = (label: number) => Uint32Array.from({ length: 10 }, (_, i) => i * 3 + label);
    const toy = {
      films,
      normals: where(0),
      reference: where(0),
      val: { index: Uint32Array.of(0, 3, 1, 4), abnormal: [false, false, true, true] },
    };
    const run = (hooks: Partial<TrainingHooks<AnoganEpoch>> = {}, other: Partial<AnoganSettings> = {}) =>
      trainAnogan(engine, toy, { ...settings, ...other }, { checkpointDir: dir, ...hooks });

    it('trains both networks, keeps the best epoch and scores films with it', async () => {
      const { history, architecture, parameters, bestEpoch } = await run();
      expect(history).to.have.length(2);
      expect(history[bestEpoch - 1]?.auroc).to.equal(Math.max(...history.map((row) => row.auroc ?? 0)));
      for (const row of history) {
        expect(row.real).to.be.within(0, 1);
        expect(row.discriminatorLoss).to.be.above(0);
      }
      const scores = await scoreFilms(
        engine,
        architecture,
        parameters,
        films,
        toy.reference,
        settings.search,
      );
      expect(scores).to.have.length(10);
      for (const { anomalyScore, residualLoss, discriminationLoss, spread } of scores) {
        expect(anomalyScore).to.be.closeTo(0.9 * residualLoss + 0.1 * discriminationLoss, 1e-9);
        expect(spread).to.be.above(0);
      }
    });

    it('trains a WGAN-GP too, the generator in every fifth step', async () => {
      const { history, architecture, parameters } = await run(
        {},
        { epochs: 3, batchSize: 2, gan: 'wgan-gp' },
      );
      expect(architecture.critic).to.equal(true);
      expect(parameters).to.not.have.property('discriminator/down2/bn/gamma');
      for (const row of history) {
        expect(row.discriminatorLoss).to.be.finite;
        expect(row.generatorLoss).to.not.equal(0);
      }
      // A critic scores: it gives no probabilities.
      expect(history.at(-1)?.real).to.be.above(history.at(-1)?.fake ?? Infinity);
    });

    it('stops early at the quick validation that is too long after the best one', async () => {
      const { history, bestEpoch } = await run({}, { epochs: 20, evaluateEvery: 2, patience: 3 });
      expect(history.length)
        .to.equal(bestEpoch + 4)
        .and.below(20);
      const resumed = await run({ resume: true }, { epochs: 20, evaluateEvery: 2, patience: 3 });
      expect(resumed.history).to.deep.equal(history);
    });

    it('interrupted and resumed, arrives at the same weights', async () => {
      const whole = await run();
      const abort = new AbortController();
      await run({
        signal: abort.signal,
        onStep: () => {
          abort.abort();
        },
      });
      const second = await run({ resume: true });
      expect(largestDifference(second.parameters, whole.parameters)).to.be.below(1e-5);
    });
  });
});
