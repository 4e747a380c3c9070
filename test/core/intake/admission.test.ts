import { expect } from 'chai';
import fc from 'fast-check';
import { from, Subject } from 'rxjs';
import { Admission, unstagedFrames, type Admitted, type Offer } from '../../../src/core/intake/admission.js';
import { token } from '../graph/support.js';

const image = { width: 12, height: 12, channels: 1 as const };

function offer(name: string, size = 1): Offer {
  return { source: 's', candidate: { path: `/${name}`, name, size, mtimeMs: 0 } };
}

describe('Admission', () => {
  it('admits everything, in order, within the limits in number and in bytes, in whatever order frames are released', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 60 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 600 }),
        fc.infiniteStream(fc.nat()),
        (sizes, frames, bytes, choice) => {
          const admission = new Admission({ frames, bytes, minFreeBytes: 0 }, 4);
          const inFlight: Admitted[] = [];
          const seen: string[] = [];
          let completed = false;
          const check = (): void => {
            expect(inFlight.length).to.be.at.most(frames);
            const held = inFlight.reduce((sum, { candidate }) => sum + candidate.size * 10, 0);
            if (inFlight.length > 1) expect(held).to.be.at.most(bytes);
          };
          admission.admit(from(sizes.map((size, index) => offer(String(index), size)))).subscribe({
            next: (admitted) => {
              inFlight.push(admitted);
              seen.push(admitted.candidate.name);
              check();
            },
            complete: () => (completed = true),
          });
          while (inFlight.length > 0) {
            const [gone] = inFlight.splice(Number(choice.next().value) % inFlight.length, 1);
            if (gone !== undefined) admission.release(gone);
          }
          expect(seen).to.deep.equal(sizes.map((_, index) => String(index)));
          expect(completed).to.equal(true);
        },
      ),
    );
  });

  it('lets frames into the graph while their real memory is within the limit, and few that no stage has processed', async () => {
    const admission = new Admission({ frames: 10, bytes: 100, minFreeBytes: 0 }, 2);
    const inGraph: string[] = [];
    const tickets = [...'abcd'].map((id) => {
      const { ticket, frame } = token(id, 6);
      const entered = admission.enter(ticket).then(() => inGraph.push(id));
      return { ticket, frame, entered };
    });
    const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    await settle();
    expect(inGraph).to.deep.equal(['a', 'b']);
    // Decoded, a and b hold 144 bytes each: no room for more until both are through.
    for (const { ticket, frame } of tickets.slice(0, 2))
      ticket.advance({ ...frame, image: { ...image, data: new Uint8Array(144) } }, frame);
    admission.progress();
    await settle();
    expect(inGraph).to.deep.equal(['a', 'b']);
    for (const { ticket } of tickets.slice(0, 2)) {
      const { candidate } = ticket;
      admission.release({ source: 's', candidate, ticket });
    }
    await settle();
    expect(inGraph).to.deep.equal(['a', 'b', 'c', 'd']);
  });

  it('lets as many frames in as a first stage is to process at a time', () => {
    const stage = (id: string, from: string, more = {}) => ({ id, from: [from], ...more }) as never;
    const unstaged = (more: object) =>
      unstagedFrames({ stages: [stage('a', 'source', more), stage('b', 'a', { concurrency: 99 })] }, 2);
    expect(unstaged({})).to.equal(4);
    expect(unstaged({ concurrency: 16 })).to.equal(16);
    expect(unstaged({ concurrency: 2, batch: { size: 8 } })).to.equal(16);
  });

  it('drops waiting files when it is closed, and completes', () => {
    const admission = new Admission({ frames: 1, bytes: 100, minFreeBytes: 0 }, 4);
    const seen: string[] = [];
    let completed = false;
    const offers = new Subject<Offer>();
    admission
      .admit(offers)
      .subscribe({ next: ({ candidate }) => seen.push(candidate.name), complete: () => (completed = true) });
    offers.next(offer('a'));
    offers.next(offer('b'));
    admission.close();
    offers.next(offer('c'));
    expect([seen, completed]).to.deep.equal([['a'], true]);
  });

  it('lets a frame in alone if it must be, and no other before it is released', async () => {
    const admission = new Admission({ frames: 9, bytes: 1e6, minFreeBytes: 0 }, 4);
    const admitted = ['a', 'b', 'c'].map((name): Admitted => ({
      ...offer(name),
      ticket: token(name).ticket,
    }));
    const entered: string[] = [];
    const enter = ({ ticket }: Admitted, alone = false): void => {
      if (ticket !== undefined) void admission.enter(ticket, alone).then(() => entered.push(ticket.id));
    };
    const [a, b, c] = admitted as [Admitted, Admitted, Admitted];
    enter(a);
    enter(b, true);
    enter(c);
    await new Promise(setImmediate);
    expect(entered).to.deep.equal(['a']);
    admission.release(a);
    await new Promise(setImmediate);
    expect(entered).to.deep.equal(['a', 'b']);
    admission.release(b);
    await new Promise(setImmediate);
    expect(entered).to.deep.equal(['a', 'b', 'c']);
  });
});
