import { readFile } from 'node:fs/promises';

/**
 * The text of a file as people's programs write it: UTF-8 with or without a byte order mark, or UTF-16 of either byte
 * order (Excel's "Unicode text"), also without its mark. Throws where the bytes are none of these.
 */
export async function readText(path: string): Promise<string> {
  return decodeText(await readFile(path));
}

export function decodeText(bytes: Uint8Array): string {
  const encoding = encodingOf(bytes);
  try {
    // The decoder takes the byte order mark off.
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new Error(`it is not ${encoding.toUpperCase()} text: save it as UTF-8`, { cause });
  }
}

function encodingOf(bytes: Uint8Array): 'utf-8' | 'utf-16le' | 'utf-16be' {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return 'utf-16le';
  if (first === 0xfe && second === 0xff) return 'utf-16be';
  // Text has no zero bytes in UTF-8; in UTF-16 every other byte of a Latin letter is zero.
  if (bytes.length >= 2 && second === 0 && first !== 0) return 'utf-16le';
  if (bytes.length >= 2 && first === 0 && second !== 0) return 'utf-16be';
  return 'utf-8';
}

/** One name for one thing: composed Unicode (macOS writes file names decomposed), without blanks around it. */
export function tidy(name: string): string {
  return name.normalize('NFC').trim();
}

/** What separates a table's cells: the one that the header has most of. German Excel writes semicolons. */
export function delimiterOf(text: string): string {
  const [header = ''] = text.replace(/"[^"]*"/g, '').split(/[\r\n]/);
  const counted = [',', ';', '\t'].map((delimiter) => ({ delimiter, count: header.split(delimiter).length }));
  return counted.reduce((best, each) => (each.count > best.count ? each : best)).delimiter;
}
