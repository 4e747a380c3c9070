import { readFileSync } from 'node:fs';
import { fixture } from './goldens.js';

/** A phantom in one transfer syntax (fixtures/make_dicom_syntaxes.py). */
export interface SyntaxFile {
  readonly name: string;
  readonly bytes: Buffer;
  /** The picture that it should give, a file in fixtures/. */
  readonly golden: string;
}

/** The phantoms in every transfer syntax. */
export function syntaxFiles(): SyntaxFile[] {
  const index = JSON.parse(readFileSync(fixture('syntaxes/index.json'), 'utf8')) as Record<string, string>;
  return Object.entries(index).map(([name, golden]) => ({
    name,
    bytes: readFileSync(fixture(`syntaxes/${name}.dcm`)),
    golden: `syntaxes/${golden}.png`,
  }));
}
