import { probeDevices } from '../../src/engine/index.js';
import type { Section } from './row.js';

/** What `rxray doctor` and `device: auto` find. */
export const selfTest: Section = async function* ({ device: wanted }) {
  for (const { device, available, detail } of await probeDevices()) {
    yield {
      what: device,
      ours: available ? 'works' : 'absent',
      detail,
      ...(device === wanted && { ok: available }),
    };
  }
};
