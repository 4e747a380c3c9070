import { expect } from 'chai';
import fc from 'fast-check';
import { from, Subject } from 'rxjs';
import { Admission, type Admitted, type Offer } from '../../../src/core/graph/admission.js';

function offer(name: string, size = 1): Offer {
  return { source: 's', candidate: { path: `/${name}`, name, size, mtimeMs: 0 } };
}

describe('Admission', () => {
  it('lets everything in, in order, within the limits in number and in bytes, whatever is released when', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 60 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 600 }),
        fc.infiniteStream(fc.nat()),
        (sizes, frames, bytes, choice) => {
          const admission = new Admission({ frames, bytes });
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

  it('forgets what waits when it is closed, and completes', () => {
    const admission = new Admission({ frames: 1, bytes: 100 });
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
});
