import { mkdtemp, open as openFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { from, interval, map, mergeMap, of } from 'rxjs';
import { z } from 'zod';
import type { Frame } from '../../src/core/frame.js';
import { imageOf } from '../../src/core/frame.js';
import {
  defineSink,
  defineSource,
  defineStage,
  type Candidate,
  type StageInstance,
} from '../../src/core/plugin.js';
import {
  runStage,
  makeFrame,
  sinkContract,
  sourceContract,
  stageContract,
  type TestRunner,
} from '../../src/testing.js';

/** Runs a suite by hand and says which of its tests failed. */
async function failuresOf(suite: (runner: TestRunner) => void): Promise<string[]> {
  const tests: [string, () => Promise<void>][] = [];
  suite({ describe: (_, body) => body(), it: (title, body) => void tests.push([title, body]) });
  const failed: string[] = [];
  for (const [title, body] of tests) await body().catch(() => failed.push(title));
  return failed;
}

const base = { name: 'sample', summary: 'A sample.', options: z.strictObject({}) };
type Process = (frame: Frame) => Frame | Promise<Frame>;

describe('the contract suites catch', () => {
  const stage = (process: Process | StageInstance, definition: object = {}) =>
    failuresOf((runner) =>
      stageContract(
        'sample',
        () => ({
          plugin: defineStage({
            ...base,
            create: () => (typeof process === 'function' ? { process } : process),
            ...definition,
          }),
        }),
        runner,
      ),
    );
  const good = (frame: Frame): Frame => ({ ...frame, image: imageOf(frame) });

  it('nothing in a stage that keeps the contract', async () => {
    expect(await stage(good)).to.deep.equal([]);
    expect(await stage({ processBatch: async (frames) => frames.map((frame) => good(frame)) })).to.deep.equal(
      [],
    );
    expect(await stage({ operator: map((frame) => good(frame)) })).to.deep.equal([]);
  });

  it('a stage that writes into its input', async () => {
    const failed = await stage((frame) => {
      imageOf(frame).data[0]! += 1;
      return frame;
    });
    expect(failed).to.include('does not change the frame that it is given');
  });

  it('a stage that drops the results of others', async () => {
    const failed = await stage((frame) => ({ ...good(frame), results: {} }));
    expect(failed).to.deep.equal(['keeps identity, origin, metadata and the results of others']);
  });

  it('a stage whose result depends on what came before', async () => {
    let count = 0;
    const failed = await stage((frame) => ({
      ...good(frame),
      meta: { ...frame.meta, count: count++ },
    }));
    expect(failed).to.include('gives the same result for the same frame, whatever came before');
  });

  it('a stage whose result depends on its batch', async () => {
    const failed = await stage({
      processBatch: async (frames) =>
        frames.map((frame) => ({ ...good(frame), meta: { ...frame.meta, size: frames.length } })),
    });
    expect(failed).to.deep.equal(['gives the same results for many frames at once as for each alone']);
  });

  it('a stage that passes a faulty frame', async () => {
    expect(await stage((frame) => frame)).to.deep.equal(['fails only on a faulty frame, and continues']);
  });

  it('a stage that takes any settings, or describes none', async () => {
    expect(await stage(good, { options: z.object({ size: z.number().default(1) }) })).to.deep.equal([
      'describes every option, and has examples that its own schema accepts',
      'refuses settings that it does not know or cannot use',
    ]);
  });

  interface Store {
    readonly rows: string[];
    readonly known: Set<string>;
  }
  const sink = (write: (store: Store, frames: readonly Frame[]) => Promise<void> | void, maxBatch = 4) =>
    failuresOf((runner) =>
      sinkContract(
        'sample',
        () => {
          const store: Store = { rows: [], known: new Set() };
          return {
            plugin: defineSink({
              ...base,
              maxBatch,
              create: () => {
                let closed = false;
                return {
                  write: async (frames) => {
                    if (closed) throw new Error('closed');
                    await write(store, frames);
                  },
                  dispose: () => {
                    closed = true;
                  },
                };
              },
            }),
            delivered: async () => store.rows.map((id) => ({ id })),
          };
        },
        runner,
      ),
    );

  it('a sink that repeats a frame', async () => {
    const failed = await sink(({ rows }, frames) => void rows.push(...frames.map(({ id }) => id)));
    expect(failed).to.deep.equal(['delivers a repeated frame once: again, in a group, and after a restart']);
  });

  it('a sink that confirms before it has delivered', async () => {
    const failed = await sink(({ rows, known }, frames) => {
      const fresh = frames.filter(({ id }) => !known.has(id) && known.add(id));
      setImmediate(() => rows.push(...new Set(fresh.map(({ id }) => id))));
    });
    expect(failed).to.include('has delivered a frame, durably, when write resolves');
  });

  it('a sink that takes one frame of a group', async () => {
    const failed = await sink(({ rows, known }, [frame]) => {
      if (frame === undefined || known.has(frame.id)) return;
      known.add(frame.id);
      rows.push(frame.id);
    });
    expect(failed).to.include('delivers a group as it delivers its frames one by one');
  });

  const source = (options: { readonly settleMs: number }) =>
    failuresOf((runner) =>
      sourceContract(
        'sample',
        async () => {
          const folder = await mkdtemp(join(tmpdir(), 'rxray-source-'));
          const outside = await mkdtemp(join(tmpdir(), 'rxray-source-'));
          return {
            plugin: defineSource({
              ...base,
              create: (_, { once }) => ({
                candidates$: (once ? of(0) : interval(10)).pipe(
                  mergeMap(async () => settled(folder, once ? 0 : options.settleMs)),
                  mergeMap((candidates) => from(candidates)),
                ),
              }),
            }),
            async put(name: string, bytes: Uint8Array) {
              await writeFile(join(outside, name), bytes);
              await rename(join(outside, name), join(folder, name));
            },
            async begin(name: string) {
              const file = await openFile(join(folder, name), 'w');
              return {
                append: async (bytes: Uint8Array) => {
                  await file.write(bytes);
                },
                close: () => file.close(),
              };
            },
            async dispose() {
              await rm(folder, { recursive: true });
              await rm(outside, { recursive: true });
            },
          };
        },
        runner,
      ),
    );

  it('nothing in a source that keeps the contract', async () => {
    expect(await source({ settleMs: 500 })).to.deep.equal([]);
  });

  it('a source that offers half a file', async () => {
    expect(await source({ settleMs: 0 })).to.deep.equal(['never offers an incomplete file']);
  });
});

describe('runStage', () => {
  it('gives the outcome of every frame, in order', async () => {
    const reversed: StageInstance = {
      processBatch: async (frames) => frames.map((frame) => (imageOf(frame), frame)).reverse(),
    };
    const frames = [
      makeFrame({ name: 'a' }),
      makeFrame({ name: 'b', image: null }),
      makeFrame({ name: 'c' }),
    ];
    const [a, b, c] = await runStage(reversed, frames);
    expect(a).to.equal(frames[0]);
    expect(b).to.be.instanceOf(Error);
    expect(c).to.equal(frames[2]);
  });
});

async function settled(folder: string, settleMs: number): Promise<Candidate[]> {
  const candidates: Candidate[] = [];
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const { size, mtimeMs } = await stat(path);
    if (Date.now() - mtimeMs >= settleMs) candidates.push({ path, name, size, mtimeMs });
  }
  return candidates;
}
