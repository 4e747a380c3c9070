import { RxrayError } from './errors.js';
import type { Kind } from './plugin.js';

/** What an instance must have one of. */
const MEMBERS: Readonly<Record<Kind, readonly string[]>> = {
  source: ['candidates$'],
  stage: ['process', 'processBatch', 'operator'],
  sink: ['write'],
};

/** The instance, as it is. Throws CONFIG_PLUGIN_BROKEN if `create` of the plugin has returned something else. */
export function checkInstance<T>(kind: Kind, name: string, instance: T): T {
  const members = MEMBERS[kind];
  const isObject = typeof instance === 'object' && instance !== null;
  if (isObject && members.some((member) => member in instance)) return instance;
  const found = isObject
    ? `an object with ${Object.keys(instance).join(', ') || 'nothing'}`
    : String(instance);
  throw new RxrayError(
    'CONFIG_PLUGIN_BROKEN',
    `\`create\` of the ${kind} "${name}" returned ${found}: expected an object with ${members.map((member) => `\`${member}\``).join(' or ')}`,
  );
}
