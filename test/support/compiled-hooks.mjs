// Imports of src/ get the compiled module instead; see compiled.mjs.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const root = new URL('../../', import.meta.url).href;
const SOURCE = `${root}src/`;
const COMPILED = `${root}.compiled/`;

export function resolve(specifier, context, next) {
  const isPath = specifier.startsWith('.') || specifier.startsWith('file:');
  const url =
    isPath && URL.canParse(specifier, context.parentURL) ? new URL(specifier, context.parentURL) : undefined;
  if (url?.href.startsWith(COMPILED)) return found(url.href);
  if (url?.href.startsWith(SOURCE)) {
    const compiled = url.href.replace(SOURCE, COMPILED).replace(/[.]ts\b/, '.js');
    const written = url.href.replace(/[.]js\b/, '.ts');
    // Without its source it is what an earlier run has left.
    if (existsSync(fileURLToPath(compiled)) && existsSync(fileURLToPath(written))) return found(compiled);
  }
  return next(specifier, context);
}

export async function load(url, context, next) {
  if (!url.startsWith(COMPILED)) return next(url, context);
  return { format: 'module', source: await readFile(fileURLToPath(url)), shortCircuit: true };
}

const found = (url) => ({ url, format: 'module', shortCircuit: true });
