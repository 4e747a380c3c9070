import assert from 'node:assert/strict';
import { from, lastValueFrom, toArray } from 'rxjs';
import type { Frame } from '../core/frame.js';
import type { StageInstance } from '../core/plugin.js';
import { definitionContract, type Factory, globalRunner, type Harness, onBench } from './contract.js';
import { makeFrame } from './frame.js';

export interface StageHarness extends Harness<'stage'> {
  /** A valid frame, by number. Frames may differ in any way. Default: grey, 8 bit, 8 × 6. */
  frame?(index: number): Frame;
  /** A frame that the stage must fail on; null if there is none. Default: one without pixels. */
  faulty?(): Frame | null;
  /** Relative tolerance between numbers of a batch and of single frames. Default 0. */
  readonly tolerance?: number;
}

/**
 * What every stage must do: not change its input, keep the results of others, give the same result for the same frame
 * whatever came before or with it, and fail only on faulty frames.
 */
export function stageContract(name: string, factory: Factory<StageHarness>, runner = globalRunner): void {
  const { describe, it } = runner;
  const bench = (test: Parameters<typeof onBench<'stage', StageHarness>>[1]) => onBench(factory, test);

  describe(`${name}: the stage contract`, () => {
    definitionContract('stage', factory, runner);

    it(
      'does not change the frame that it is given',
      bench(async ({ harness, open }) => {
        const frame = frameOf(harness, 0);
        const before = structuredClone(frame);
        await one(await open(), frame);
        assert.deepEqual(structuredClone(frame), before);
      }),
    );

    it(
      'keeps identity, origin, metadata and the results of others',
      bench(async ({ harness, open }) => {
        const others = { another: { kind: 'test', value: 1 } };
        const given = frameOf(harness, 0);
        const frame = {
          ...given,
          meta: { ...given.meta, kept: 'yes' },
          results: { ...given.results, ...others },
        };
        const out = await one(await open(), frame);
        assert.equal(out.id, frame.id);
        assert.deepEqual(out.origin, frame.origin);
        assert.equal(out.meta.kept, 'yes');
        for (const [id, result] of Object.entries(frame.results)) assert.deepEqual(out.results[id], result);
      }),
    );

    it(
      'keeps the image unchanged if it declares keepsPixels',
      bench(async ({ harness, open }) => {
        if (harness.plugin.keepsPixels !== true) return;
        const frame = frameOf(harness, 0);
        assert.deepEqual((await one(await open(), frame)).image, frame.image);
      }),
    );

    it(
      'needs no image any more once it has answered, if its definition says so',
      bench(async ({ harness, open }) => {
        if (harness.plugin.retainsNothing !== true) return;
        const stage = await open();
        const given = frameOf(harness, 0);
        const out = await one(stage, given);
        const expected = structuredClone(out);
        for (const { image } of [given, out]) {
          const buffer = image?.data.buffer;
          const isWhole = buffer instanceof ArrayBuffer && buffer.byteLength === image?.data.byteLength;
          if (isWhole) structuredClone(buffer, { transfer: [buffer] });
        }
        // Not possible with pixels that are gone.
        structuredClone([out.meta, out.results]);
        assertClose(await one(stage, frameOf(harness, 0)), expected, harness.tolerance ?? 0);
      }),
    );

    it(
      'gives the same result for the same frame, whatever came before',
      bench(async ({ harness, open }) => {
        const stage = await open();
        const first = await one(stage, frameOf(harness, 0));
        await one(stage, frameOf(harness, 1));
        assertClose(await one(stage, frameOf(harness, 0)), first, harness.tolerance ?? 0);
      }),
    );

    it(
      'gives the same results for many frames at once as for each alone',
      bench(async ({ harness, open }) => {
        const stage = await open();
        const frames = [0, 1, 2].map((index) => frameOf(harness, index));
        const together = await runStage(stage, frames);
        for (const [index, frame] of frames.entries()) {
          assertClose(together[index], await one(stage, frame), harness.tolerance ?? 0);
        }
      }),
    );

    it(
      'fails only on a faulty frame, and continues',
      bench(async ({ harness, open }) => {
        const faulty =
          harness.faulty === undefined ? makeFrame({ name: 'bare.png', image: null }) : harness.faulty();
        if (faulty === null) return;
        const stage = await open();
        const outcomes = await runStage(stage, [frameOf(harness, 0), faulty, frameOf(harness, 1)]);
        assert.deepEqual(
          outcomes.map((outcome) => outcome instanceof Error),
          [false, true, false],
        );
        await one(stage, frameOf(harness, 2));
      }),
    );
  });
}

const frameOf = (harness: StageHarness, index: number): Frame =>
  harness.frame?.(index) ?? makeFrame({ name: `film-${index}.png`, seed: index });

/**
 * Processes frames with a stage of any form as the host does: together if possible, one by one after a failure. A
 * failed frame is replaced by its error.
 */
export async function runStage(stage: StageInstance, frames: readonly Frame[]): Promise<(Frame | Error)[]> {
  if (!('process' in stage) && frames.length > 1) {
    try {
      return inOrder(frames, await through(stage, frames));
    } catch {
      // one of them is faulty: find it one by one
    }
  }
  const outcomes: (Frame | Error)[] = [];
  for (const frame of frames) {
    try {
      outcomes.push(...inOrder([frame], await through(stage, [frame])));
    } catch (thrown) {
      outcomes.push(thrown instanceof Error ? thrown : new Error(String(thrown)));
    }
  }
  return outcomes;
}

async function through(stage: StageInstance, frames: readonly Frame[]): Promise<readonly Frame[]> {
  if ('process' in stage) return Promise.all(frames.map(async (frame) => stage.process(frame)));
  if ('processBatch' in stage) return stage.processBatch(frames);
  return lastValueFrom(from(frames).pipe(stage.operator, toArray()), { defaultValue: [] });
}

/** The results by the frames' ids; throws unless every frame comes out exactly once. */
function inOrder(frames: readonly Frame[], results: readonly Frame[]): Frame[] {
  assert.equal(results.length, frames.length, 'expected every frame to come out exactly once');
  return frames.map(({ id }) => {
    const result = results.find((candidate) => candidate.id === id);
    assert.ok(result, `expected the frame ${id} to come out`);
    return result;
  });
}

async function one(stage: StageInstance, frame: Frame): Promise<Frame> {
  const [outcome] = await runStage(stage, [frame]);
  if (outcome === undefined || outcome instanceof Error)
    throw outcome ?? new Error('the stage returned nothing');
  return outcome;
}

/** Deep equality in which numbers may differ by `tolerance` × max(1, |expected|). */
function assertClose(actual: unknown, expected: unknown, tolerance: number, path = 'frame'): void {
  if (typeof actual === 'number' && typeof expected === 'number') {
    const near =
      Object.is(actual, expected) ||
      Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected));
    assert.ok(near, `${path}: expected ${expected}, got ${actual}`);
  } else if (
    typeof actual === 'object' &&
    typeof expected === 'object' &&
    actual !== null &&
    expected !== null
  ) {
    assert.deepEqual(Object.keys(actual), Object.keys(expected), path);
    for (const [key, value] of Object.entries(expected)) {
      assertClose((actual as Record<string, unknown>)[key], value, tolerance, `${path}.${key}`);
    }
  } else {
    assert.deepEqual(actual, expected, path);
  }
}
