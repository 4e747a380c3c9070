import assert from 'node:assert/strict';
import type { Frame } from '../core/frame.js';
import type { SinkInstance } from '../core/plugin.js';
import { definitionContract, type Factory, globalRunner, type Harness, onBench } from './contract.js';
import { makeFrame } from './frame.js';

export interface SinkHarness extends Harness<'sink'> {
  /**
   * The delivered frames in order, read from the file, the server, …, not from the sink itself. A receiver that
   * recognises repeated ids (idempotency keys) counts them once. `file` if the sink delivers the name.
   */
  delivered(): Promise<readonly { readonly id: string; readonly file?: string }[]>;
  /** Gives the suite's frames what the sink needs of them beyond results, such as the film's file at `origin.path`. */
  complete?(frame: Frame): Promise<Frame>;
  /** False for a sink that keeps no record, such as a terminal: a replay shows the film again. Default true. */
  readonly keepsRecord?: boolean;
}

/** Unusual and hostile file names. */
const NAMES = [
  'plain.png',
  'ward 3/Müller, Jörg.png',
  '胸部X線.png',
  'with "quotes".png',
  "=cmd|' /C calc'!A0.png",
  'two\nlines.png',
  'emoji 🫁.png',
];

/**
 * What every sink must do: deliver in order, confirm only what is durable, deliver a repeated frame
 * once, do the same with groups as with single frames, and close cleanly.
 */
export function sinkContract(name: string, factory: Factory<SinkHarness>, runner = globalRunner): void {
  const { describe, it } = runner;
  const ids = async (harness: SinkHarness) => (await harness.delivered()).map(({ id }) => id);
  const bench = (test: Parameters<typeof onBench<'sink', SinkHarness>>[1]) => onBench(factory, test);

  describe(`${name}: the sink contract`, () => {
    definitionContract('sink', factory, runner);

    it(
      'has delivered a frame, durably, when write resolves',
      bench(async ({ harness, open }) => {
        const sink = await open();
        const frames = await completed(harness, films(3));
        for (const [index, frame] of frames.entries()) {
          await sink.write([frame]);
          assert.deepEqual(await ids(harness), idsOf(frames.slice(0, index + 1)));
        }
      }),
    );

    it(
      'delivers a group as it delivers its frames one by one',
      bench(async ({ harness, open }) => {
        const frames = await completed(harness, films(5));
        await writeAll(await open(), frames, harness.plugin.maxBatch);
        assert.deepEqual(await ids(harness), idsOf(frames));
      }),
    );

    it(
      'accepts an empty group',
      bench(async ({ harness, open }) => {
        const sink = await open();
        await sink.write([]);
        assert.deepEqual(await ids(harness), []);
      }),
    );

    it(
      'delivers every name unchanged',
      bench(async ({ harness, open }) => {
        const frames = await completed(harness, filmsOf(NAMES));
        await writeAll(await open(), frames, harness.plugin.maxBatch);
        const delivered = await harness.delivered();
        assert.deepEqual(
          delivered.map(({ id }) => id),
          idsOf(frames),
        );
        for (const [index, { file }] of delivered.entries()) {
          if (file !== undefined) assert.equal(file, NAMES[index]);
        }
      }),
    );

    it(
      'delivers a repeated frame once: again, in a group, and after a restart',
      bench(async ({ harness, open }) => {
        if (harness.keepsRecord === false) return;
        const [first, second, third] = (await completed(harness, films(3))) as [Frame, Frame, Frame];
        const { maxBatch } = harness.plugin;
        const sink = await open();
        await sink.write([first]);
        await sink.write([first]);
        await writeAll(sink, [second, second], maxBatch);
        await sink.dispose?.();
        const restarted = await open();
        await writeAll(restarted, [first, second, third], maxBatch);
        assert.deepEqual(await ids(harness), idsOf([first, second, third]));
      }),
    );

    it(
      'has delivered everything when it is disposed, may be disposed twice, and rejects frames after that',
      bench(async ({ harness, open }) => {
        const sink = await open();
        const [frame, late] = (await completed(harness, films(2))) as [Frame, Frame];
        const written = sink.write([frame]);
        await sink.dispose?.();
        await written;
        assert.deepEqual(await ids(harness), [frame.id]);
        await sink.dispose?.();
        await assert.rejects(sink.write([late]));
        assert.deepEqual(await ids(harness), [frame.id]);
      }),
    );

    it(
      'does not change the frame',
      bench(async ({ harness, open }) => {
        const [frame] = (await completed(harness, films(1))) as [Frame];
        const before = structuredClone(frame);
        await (await open()).write([frame]);
        assert.deepEqual(structuredClone(frame), before);
      }),
    );
  });
}

const films = (count: number): Frame[] => filmsOf(Array.from({ length: count }, (_, i) => `film-${i}.png`));

/** With anomaly scores that grow. */
const filmsOf = (names: readonly string[]): Frame[] =>
  names.map((name, seed) =>
    makeFrame({
      name,
      seed,
      results: {
        classes: {
          kind: 'classification',
          label: 'normal',
          probability: 0.75,
          probabilities: { normal: 0.75, bacterial: 0.25 },
          topK: [{ label: 'normal', probability: 0.75 }],
        },
        anomaly: { kind: 'anomaly', anomalyScore: 0.2 + seed, rawSum: 1061, percentile: 41 },
      },
    }),
  );

const idsOf = (frames: readonly Frame[]): string[] => frames.map(({ id }) => id);

/** As the host does: in groups of at most `maxBatch`. */
async function writeAll(sink: SinkInstance, frames: readonly Frame[], maxBatch = 1): Promise<void> {
  for (let i = 0; i < frames.length; i += maxBatch) await sink.write(frames.slice(i, i + maxBatch));
}

const completed = (harness: SinkHarness, frames: readonly Frame[]): Promise<Frame[]> =>
  Promise.all(frames.map(async (frame) => (await harness.complete?.(frame)) ?? frame));
