import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { filter, firstValueFrom, lastValueFrom, ReplaySubject, timeout, toArray } from 'rxjs';
import type { Candidate } from '../core/plugin.js';
import { definitionContract, type Factory, globalRunner, type Harness, onBench } from './contract.js';

export interface SourceHarness extends Harness<'source'> {
  /** The source ends by itself, also without `once`: files that come later are not offered. */
  readonly finite?: boolean;
  /** Puts a complete file into the source atomically (for a folder: written elsewhere, then renamed). */
  put(name: string, bytes: Uint8Array): Promise<void>;
  /** How the source offers what was put, where it is not by that name and size: a receiver names what it gets itself. */
  offered?(name: string): Pick<Candidate, 'name' | 'size'>;
  /**
   * For sources whose files are written by others: starts a file in place. The suite appends a piece every 20 ms, so
   * `with` must require a longer time without changes.
   */
  begin?(name: string): Promise<{ append(bytes: Uint8Array): Promise<void>; close(): Promise<void> }>;
}

const PIECE = Buffer.alloc(512, 7);
const PIECES = 25;
const PATIENCE_MS = 10_000;

/**
 * What every source must do: offer all present files, complete with `once`, offer files that come later, stop when
 * unsubscribed, and never offer an incomplete file.
 */
export function sourceContract(name: string, factory: Factory<SourceHarness>, runner = globalRunner): void {
  const { describe, it } = runner;
  const bench = (test: Parameters<typeof onBench<'source', SourceHarness>>[1]) => onBench(factory, test);

  describe(`${name}: the source contract`, () => {
    definitionContract('source', factory, runner);

    it(
      'offers all present files, then completes, with once',
      bench(async ({ harness, open }) => {
        await harness.put('b.png', Buffer.from('second'));
        await harness.put('a.png', Buffer.from('first one'));
        await harness.put('Lunge ü, 肺.png', Buffer.from('third'));
        const source = await open(undefined, { once: true });
        const offered = await lastValueFrom(source.candidates$.pipe(timeout(PATIENCE_MS), toArray()), {
          defaultValue: [],
        });
        const put = [
          { name: 'b.png', size: 6 },
          { name: 'a.png', size: 9 },
          { name: 'Lunge ü, 肺.png', size: 5 },
        ].map((file) => harness.offered?.(file.name) ?? file);
        assert.deepEqual(
          new Map(offered.map(({ name, size }) => [name, size])),
          new Map(put.map(({ name, size }) => [name, size])),
        );
      }),
    );

    it(
      'completes at once without files, with once',
      bench(async ({ open }) => {
        const source = await open(undefined, { once: true });
        assert.deepEqual(
          await lastValueFrom(source.candidates$.pipe(timeout(PATIENCE_MS), toArray()), { defaultValue: [] }),
          [],
        );
      }),
    );

    it(
      'offers files that come while it runs',
      bench(async ({ harness, open }) => {
        if (harness.finite === true) return;
        await harness.put('early.png', PIECE);
        const source = await open();
        const seen = new ReplaySubject<Candidate>(100);
        const subscription = source.candidates$.subscribe(seen);
        await harness.put('late.png', PIECE);
        const { name, size } = harness.offered?.('late.png') ?? { name: 'late.png', size: PIECE.byteLength };
        const late = await firstValueFrom(
          seen.pipe(
            filter((candidate) => candidate.name === name),
            timeout(PATIENCE_MS),
          ),
          { defaultValue: undefined },
        );
        subscription.unsubscribe();
        assert.equal(late?.size, size);
      }),
    );

    it(
      'offers nothing after it was unsubscribed',
      bench(async ({ harness, open }) => {
        await harness.put('before.png', PIECE);
        const source = await open();
        const seen: string[] = [];
        await new Promise<void>((resolve, reject) => {
          const subscription = source.candidates$.pipe(timeout({ first: PATIENCE_MS })).subscribe({
            next: (candidate) => {
              seen.push(candidate.name);
              queueMicrotask(() => {
                subscription.unsubscribe();
                resolve();
              });
            },
            error: reject,
          });
        });
        await harness.put('after.png', PIECE);
        // when a second source has found it, the first would have found it too
        const second = await open(undefined, { once: true });
        const found = await lastValueFrom(second.candidates$.pipe(timeout(PATIENCE_MS), toArray()), {
          defaultValue: [],
        });
        const { name } = harness.offered?.('after.png') ?? { name: 'after.png' };
        assert.ok(found.some((candidate) => candidate.name === name));
        assert.ok(!seen.includes(name));
      }),
    );

    it(
      'never offers an incomplete file',
      bench(async ({ harness, open }) => {
        if (harness.begin === undefined) return;
        const source = await open();
        const offered = firstValueFrom(
          source.candidates$.pipe(
            filter((candidate) => candidate.name === 'slow.png'),
            timeout(PATIENCE_MS),
          ),
          { defaultValue: undefined },
        );
        const file = await harness.begin('slow.png');
        for (let i = 0; i < PIECES; i++) {
          await file.append(PIECE);
          await sleep(20);
        }
        await file.close();
        assert.equal((await offered)?.size, PIECES * PIECE.byteLength);
      }),
    );
  });
}
