import { expect } from 'chai';
import sinon from 'sinon';
import { timeLeft } from '../../src/cli/bar.js';
import { RunProgress } from '../../src/cli/run-progress.js';

describe('the progress of a run', () => {
  let clock: sinon.SinonFakeTimers;
  let text: string;
  const stream = (columns = 120): NodeJS.WriteStream =>
    ({ columns, write: (chunk: string) => ((text += chunk), true) }) as unknown as NodeJS.WriteStream;
  const films = { done: 0, failed: 0, skipped: 0, already: 0, failedBefore: 0, leftAlone: 0 };
  let waiting: number;
  const monitor = { films, load: () => ({ waiting, frames: 10, bytes: 0 }) };

  beforeEach(() => {
    clock = sinon.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance', 'Date'] });
    text = '';
    waiting = 90;
    Object.assign(films, { done: 0, failed: 0 });
  });
  afterEach(() => {
    clock.restore();
  });

  it('is a line every ten seconds where there is no terminal', () => {
    const progress = new RunProgress(monitor, false, { stdout: stream(), stderr: stream() });
    clock.tick(10_000);
    expect(text).to.equal('0 of 100 films\n');
    Object.assign(films, { done: 9, failed: 1 });
    waiting = 80;
    clock.tick(10_000);
    Object.assign(films, { done: 18, failed: 2 });
    waiting = 70;
    clock.tick(10_000);
    progress.end();
    clock.tick(10_000);
    expect(text.split('\n').slice(1)).to.deep.equal([
      '10 of 100 films, 1 failed',
      '20 of 100 films, 1 min left, 2 failed',
      '',
    ]);
  });

  it('is a bar that stays below other output, on both streams, and is removed at the end', () => {
    const [stdout, stderr] = [stream(), stream(40)];
    const progress = new RunProgress(monitor, true, { stdout, stderr });
    clock.tick(200);
    expect(text).to.equal(`${'░'.repeat(24)}  0 of 100 film`);
    text = '';
    stdout.write('a film\n');
    expect(text).to.equal('\r\x1b[2Ka film\n');
    clock.tick(200);
    text = '';
    stderr.write('a warning\n');
    expect(text).to.equal('\r\x1b[2Ka warning\n');
    clock.tick(200);
    text = '';
    progress.end();
    expect(text).to.equal('\r\x1b[2K');
    stdout.write('x');
    clock.tick(1000);
    expect(text).to.equal('\r\x1b[2Kx');
  });

  it('states the remaining time, once it is known', () => {
    expect([NaN, 'NULL', 'INF', Infinity].map(timeLeft)).to.deep.equal(['', '', '', '']);
    expect([3.2, 90, 3600, 7500].map(timeLeft)).to.deep.equal([
      '4 s left',
      '2 min left',
      '1 h 00 min left',
      '2 h 05 min left',
    ]);
  });
});
