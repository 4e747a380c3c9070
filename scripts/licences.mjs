// Every package that a user installs must be permissively licensed, on every platform that the lock file names.
import { readFileSync } from 'node:fs';
import satisfies from 'spdx-satisfies';

const PERMISSIVE = [
  ...['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BlueOak-1.0.0', 'CC0-1.0', 'ISC', 'MIT'],
  ...['Python-2.0', 'Unlicense', 'Zlib'],
];
// libvips is a shared library of its own that sharp loads: the LGPL allows that, and users can replace it.
const LIBVIPS = /^node_modules\/@img\/sharp-/;

const { packages } = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8'));
const shipped = Object.entries(packages).filter(([path, entry]) => path !== '' && !entry.dev && !entry.peer);
const refused = shipped.filter(([path, { license }]) => {
  const allowed = LIBVIPS.test(path) ? [...PERMISSIVE, 'LGPL-3.0-or-later'] : PERMISSIVE;
  return license === undefined || !satisfies(license, allowed);
});

for (const [path, { license }] of refused) console.error(`${path}: ${license ?? 'no licence given'}`);
console.log(`licences: ${shipped.length} packages, ${refused.length} refused`);
process.exitCode = refused.length === 0 ? 0 : 1;
