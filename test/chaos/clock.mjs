// Loaded into the program under test: a clock that is set back by an hour, and forward again, every 40 ms.
import { performance } from 'node:perf_hooks';

const { now } = Date;
const HOUR_MS = 3_600_000;
const wrong = () => now() - (Math.floor(performance.now() / 40) % 2) * HOUR_MS;

globalThis.Date = class extends Date {
  constructor(...given) {
    if (given.length === 0) super(wrong());
    else super(...given);
  }

  static now() {
    return wrong();
  }
};
