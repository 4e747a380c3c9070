import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { filter, firstValueFrom, lastValueFrom, ReplaySubject, timeout, toArray } from 'rxjs';
import type { Candidate } from '../core/plugin.js';
import { definitionContract, type Factory, globalRunner, type Harness, onBench } from './contract.js';

export interface SourceHarness extends Harness<'source'> {
  /** The source ends by itself, whether it runs once or not: nothing is offered that comes later. */
  readonly finite?: boolean;
  /** Puts a whole file where the source looks, in one go (for a folder: written elsewhere, then renamed in). */
  put(name: string, bytes: Uint8Array): Promise<void>;
  /** How the source offers what was put, where it is not by that name and size: a receiver names what it gets itself. */
  offered?(name: string): Pick<Candidate, 'name' | 'size'>;
  /**
   * For sources of files that others write: begins a file in place, of which more follows. The suite
   * appends a piece every 20 ms, so `with` must ask for more rest than that.
   */
  begin?(name: string): Promise<{ append(bytes: Uint8Array): Promise<void>; close(): Promise<void> }>;
}

const PIECE = Buffer.alloc(512, 7);
const PIECES = 25;
const PATIENCE_MS = 10_000;

/**
 * What every source must do: offer everything that is there, come to an end when it runs once, offer
 * what comes later, stop when nobody listens any more, and never offer half a file.
 */
export function sourceContract(name: string, factory: Factory<SourceHarness>, runner = globalRunner): void {
  const { describe, it } = runner;
  const bench = (test: Parameters<typeof onBench<'source', SourceHarness>>[1]) => onBench(factory, test);

  describe(`${name}: the source contract`, () => {
    definitionContract('source', factory, runner);

    it(
      'offers everything that is there, then completes, when it runs once',
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
      'completes at once when there is nothing and it runs once',
      bench(async ({ open }) => {
        const source = await open(undefined, { once: true });
        assert.deepEqual(
          await lastValueFrom(source.candidates$.pipe(timeout(PATIENCE_MS), toArray()), { defaultValue: [] }),
          [],
        );
      }),
    );

    it(
      'offers what comes while it runs',
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
      'offers nothing any more once nobody listens',
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
        // by the time that a second one has found it, the first would have, too
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
      'never offers half a file',
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
