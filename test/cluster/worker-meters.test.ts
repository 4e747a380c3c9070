import { expect } from 'chai';
import { WorkerMeters } from '../../src/cluster/worker-meters.js';
import { Meter } from '../../src/core/monitor/meter.js';

describe("the sums of workers' meters", () => {
  const note = (): void => undefined;
  let sum: Meter;
  let meters: WorkerMeters;
  beforeEach(() => {
    sum = new Meter('resnet', 'stage', note);
    meters = new WorkerMeters(() => new Map([['resnet', sum]]));
  });

  /** A worker's stage that has taken so long for each of its frames, in seconds. */
  function meterOf(...seconds: number[]): Meter {
    const meter = new Meter('resnet', 'stage', note);
    meter.capacity = 2;
    for (const each of seconds) {
      meter.framesIn += 1;
      meter.framesOut += 1;
      meter.callSeconds += each;
      meter.durations.observe(each);
      meter.batches.observe(1);
    }
    return meter;
  }

  it('are those of their counters and buckets', () => {
    meters.take('one', { resnet: meterOf(0.002, 0.2).counts });
    meters.take('two', { resnet: meterOf(0.2).counts });
    meters.take('one', { resnet: meterOf(0.002, 0.2, 0.2).counts });
    const all = meterOf(0.002, 0.2, 0.2, 0.2);
    expect(sum.durations.counts).to.deep.equal(all.durations.counts);
    expect(sum.durations.sum).to.be.closeTo(all.durations.sum, 1e-9);
    expect(sum.batches.count).to.equal(4);
    expect(sum).to.include({ framesOut: 4, capacity: 4 });
  });

  it('have nothing in progress at a worker that is gone, and count it once when it responds again', () => {
    const meter = meterOf(0.1);
    meter.inFlight = 3;
    meters.take('one', { resnet: meter.counts });
    expect(sum).to.include({ inFlight: 3, queue: 0 });
    meters.keep(new Set());
    expect(sum).to.include({ inFlight: 0, queue: 0, capacity: 0, framesOut: 1 });
    meters.take('one', { resnet: meter.counts });
    expect(sum).to.include({ inFlight: 3, capacity: 2, framesOut: 1 });
  });

  it('ignore stages that the head does not have', () => {
    meters.take('one', { other: meterOf(0.1).counts });
    expect(sum.framesOut).to.equal(0);
  });
});
