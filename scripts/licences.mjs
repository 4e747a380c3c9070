// Every package that a user installs must be permissively licensed, on every platform that the lock file names; and
// every package at all is one version from the registry, known by its hash.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import satisfies from 'spdx-satisfies';

const PERMISSIVE = [
  ...['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BlueOak-1.0.0', 'CC0-1.0', 'ISC', 'MIT'],
  ...['Python-2.0', 'Unlicense', 'Zlib'],
];
// libvips is a shared library of its own that sharp loads: the LGPL allows that, and users can replace it.
const LIBVIPS = /^node_modules\/@img\/sharp-/;
// At most one major version, so that no new one comes in unseen.
const RANGE = /^[\^~]?\d+(\.\d+){0,2}(-[\w.]+)?$/;
const HASH = /^sha512-[\w+/]{86}==$/;
const REGISTRY = 'https://registry.npmjs.org/';

/** What is wrong, one line each, with the licences and with the versions of a package and its lock file. */
export function faultsOf(manifest, lock) {
  const installed = Object.entries(lock.packages).filter(([path]) => path !== '');
  const shipped = installed.filter(([, entry]) => !entry.dev && !entry.peer);
  const refused = shipped.filter(([path, { license }]) => {
    const allowed = LIBVIPS.test(path) ? [...PERMISSIVE, 'LGPL-3.0-or-later'] : PERMISSIVE;
    return license === undefined || !satisfies(license, allowed);
  });
  const { dependencies, devDependencies, optionalDependencies, peerDependencies } = manifest;
  const ranges = Object.entries({
    ...peerDependencies,
    ...optionalDependencies,
    ...devDependencies,
    ...dependencies,
  });
  return {
    shipped: shipped.length,
    installed: installed.length,
    licences: refused.map(([path, { license }]) => `${path}: ${license ?? 'no licence given'}`),
    versions: [
      ...ranges
        .filter(([, range]) => !RANGE.test(range))
        .map(([name, range]) => `${name}: expected a version of the registry such as ^1.2.3, got ${range}`),
      ...installed
        .filter(([, { integrity }]) => !HASH.test(integrity ?? ''))
        .map(([path]) => `${path}: no SHA-512 in package-lock.json`),
      ...installed
        .filter(([, { link, resolved = REGISTRY }]) => link === true || !resolved.startsWith(REGISTRY))
        .map(([path, { resolved }]) => `${path}: not from the registry but from ${resolved}`),
    ],
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const read = (name) => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), 'utf8'));
  const { shipped, installed, licences, versions } = faultsOf(
    read('package.json'),
    read('package-lock.json'),
  );
  for (const fault of [...licences, ...versions]) console.error(fault);
  console.log(
    `licences: ${shipped} packages, ${licences.length} refused; versions: ${installed} packages, ${versions.length} refused`,
  );
  process.exitCode = licences.length + versions.length === 0 ? 0 : 1;
}
