import { expect } from 'chai';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { fateTables } from '../../scripts/fates.js';
import {
  ADMITTED,
  after,
  isAnswered,
  next,
  precautionAfter,
  type Delivery,
  type Fate,
  type FateEvent,
  type SinkEvent,
  type Status,
} from '../../src/core/fate.js';

const SINKS = ['csv', 'webhook', 'folder'];
const code = 'FRAME_SINK';

describe('the fate of a film', () => {
  it('changes at a sink as the table says', () => {
    const at = (delivery: Delivery, kind: SinkEvent['kind']): Delivery | undefined => {
      const event = { kind, sink: 'csv', code } as SinkEvent;
      return next({ ...ADMITTED, sinks: delivery === 'open' ? {} : { csv: delivery } }, event).sinks['csv'];
    };
    const table: [Delivery, Delivery, Delivery, Delivery, Delivery][] = [
      // now, skip, park, confirm, refuse
      ['open', 'absent', 'parked', 'confirmed', 'refused'],
      ['absent', 'absent', 'absent', 'absent', 'absent'],
      ['parked', 'parked', 'parked', 'confirmed', 'refused'],
      ['confirmed', 'confirmed', 'confirmed', 'confirmed', 'confirmed'],
      ['refused', 'refused', 'refused', 'refused', 'refused'],
    ];
    for (const [now, ...expected] of table) {
      const kinds = ['skip', 'park', 'confirm', 'refuse'] as const;
      expect(
        kinds.map((kind) => at(now, kind)),
        now,
      ).to.deep.equal(expected);
    }
  });

  it('changes as a whole as the table says', () => {
    const parked = { csv: 'confirmed', webhook: 'parked' } as const;
    const cases: [Fate, FateEvent, Status][] = [
      [ADMITTED, { kind: 'fail', code: 'FRAME_DAMAGED' }, 'failed'],
      [ADMITTED, { kind: 'refuse', sink: 'csv', code }, 'admitted'],
      [{ ...ADMITTED, code }, { kind: 'leave' }, 'failed'],
      [{ ...ADMITTED, sinks: parked }, { kind: 'leave' }, 'waiting'],
      [{ ...ADMITTED, sinks: { csv: 'confirmed', webhook: 'absent' } }, { kind: 'leave' }, 'done'],
      [ADMITTED, { kind: 'leave' }, 'done'],
      [{ status: 'waiting', code: null, sinks: parked }, { kind: 'confirm', sink: 'webhook' }, 'done'],
      [{ status: 'waiting', code: null, sinks: parked }, { kind: 'refuse', sink: 'webhook', code }, 'failed'],
      [{ status: 'failed', code, sinks: parked }, { kind: 'confirm', sink: 'webhook' }, 'failed'],
      [{ status: 'done', code: null, sinks: {} }, { kind: 'refuse', sink: 'csv', code }, 'done'],
      [{ status: 'failed', code, sinks: {} }, { kind: 'admit' }, 'admitted'],
    ];
    for (const [fate, event, status] of cases) {
      expect(next(fate, event).status, `${fate.status} ${event.kind}`).to.equal(status);
    }
  });

  it('keeps the code of its first failure, until it is tried again', () => {
    const failed = after(ADMITTED, [
      { kind: 'refuse', sink: 'csv', code: 'FRAME_SINK' },
      { kind: 'fail', code: 'FRAME_STAGE' },
    ]);
    expect(failed).to.deep.equal({ status: 'failed', code: 'FRAME_SINK', sinks: { csv: 'refused' } });
    expect(next(failed, { kind: 'admit' })).to.deep.equal(ADMITTED);
  });

  const sink = fc.constantFrom(...SINKS);
  const sinkEvent: fc.Arbitrary<FateEvent> = fc.oneof(
    fc.record({ kind: fc.constantFrom('skip' as const, 'park' as const, 'confirm' as const), sink }),
    fc.record({ kind: fc.constant('refuse' as const), sink, code: fc.constant(code) }),
  );
  const anyEvent: fc.Arbitrary<FateEvent> = fc.oneof(
    { weight: 6, arbitrary: sinkEvent },
    fc.record({ kind: fc.constant('fail' as const), code: fc.constant('FRAME_STAGE' as const) }),
    fc.constant({ kind: 'leave' } as const),
    fc.record({ kind: fc.constant('admit' as const), anew: fc.boolean() }),
  );
  const history = fc.array(anyEvent, { maxLength: 30 });

  it('is done only where no sink is missing and nothing has failed', () => {
    fc.assert(
      fc.property(history, (events) => {
        const { status, code: failure, sinks } = after(ADMITTED, events);
        if (status === 'done') {
          expect(failure).to.equal(null);
          expect(Object.values(sinks)).to.not.include.members(['parked']);
          expect(Object.values(sinks)).to.not.include.members(['refused']);
        }
        if (status === 'waiting') expect(Object.values(sinks)).to.include('parked');
        if (status === 'failed') expect(failure).to.not.equal(null);
      }),
    );
  });

  it('never takes back what a sink has confirmed, nor a failure, unless it is admitted again', () => {
    fc.assert(
      fc.property(history, fc.oneof(sinkEvent, fc.constant({ kind: 'leave' } as const)), (events, event) => {
        const before = after(ADMITTED, events);
        const now = next(before, event);
        for (const [id, delivery] of Object.entries(before.sinks)) {
          if (delivery === 'confirmed') expect(now.sinks[id]).to.equal('confirmed');
        }
        if (before.status === 'failed') expect(now.status).to.equal('failed');
        if (before.status === 'done') expect(now).to.deep.equal(before);
      }),
    );
  });

  it('is the same in whatever order the sinks answer', () => {
    const answers = fc.tuple(
      ...SINKS.map((id) =>
        fc
          .constantFrom<SinkEvent['kind'][]>('skip', 'park', 'confirm', 'refuse')
          .map((kind): SinkEvent => (kind === 'refuse' ? { kind, sink: id, code } : { kind, sink: id })),
      ),
    );
    fc.assert(
      fc.property(answers, fc.infiniteStream(fc.nat()), (events, order) => {
        const shuffled = events
          .map((event) => ({ event, at: order.next().value as number }))
          .sort((a, b) => a.at - b.at)
          .map(({ event }) => event);
        const end = [{ kind: 'leave' }] as const;
        expect(isAnswered(after(ADMITTED, events), SINKS)).to.equal(true);
        expect(after(ADMITTED, [...shuffled, ...end])).to.deep.equal(after(ADMITTED, [...events, ...end]));
      }),
    );
  });

  it('skips sinks that have answered, after an interrupted attempt', () => {
    fc.assert(
      fc.property(fc.array(sinkEvent), (events) => {
        const before = after(ADMITTED, events);
        expect(next(before, { kind: 'admit' })).to.deep.equal(before);
        expect(next(before, { kind: 'admit', anew: true })).to.deep.equal(ADMITTED);
      }),
    );
  });

  it('has a third attempt alone, and no fourth', () => {
    expect([0, 1, 2, 3, 9].map(precautionAfter)).to.deep.equal([
      'none',
      'none',
      'alone',
      'putAside',
      'putAside',
    ]);
  });

  it('and the tables in the docs are equal', async () => {
    const page = readFileSync(new URL('../../docs/delivery.md', import.meta.url), 'utf8');
    expect(page).to.include(await fateTables());
  });
});
