/** Defined terms of one set without code extensions (PS3.3, C.12.1.1.2), and the names of WHATWG's decoders for them. */
const PLAIN: Readonly<Record<string, string>> = {
  'ISO_IR 100': 'iso-8859-1',
  'ISO_IR 101': 'iso-8859-2',
  'ISO_IR 109': 'iso-8859-3',
  'ISO_IR 110': 'iso-8859-4',
  'ISO_IR 126': 'iso-8859-7',
  'ISO_IR 127': 'iso-8859-6',
  'ISO_IR 138': 'iso-8859-8',
  'ISO_IR 144': 'iso-8859-5',
  'ISO_IR 148': 'iso-8859-9',
  'ISO_IR 203': 'iso-8859-15',
  'ISO_IR 13': 'shift_jis',
  'ISO_IR 166': 'windows-874',
  'ISO_IR 192': 'utf-8',
  GB18030: 'gb18030',
  GBK: 'gbk',
};

/** How the bytes of one half of the code table are read: a decoder, the bytes per character, and the bytes that the decoder expects. */
interface CodeElement {
  readonly decoder: string;
  readonly width: 1 | 2;
  readonly bytes: (character: Buffer) => Uint8Array;
}

const asIs = (character: Buffer): Uint8Array => character;
const raised = (character: Buffer): Uint8Array => character.map((byte) => byte | 0x80);
const single = (decoder: string): CodeElement => ({ decoder, width: 1, bytes: asIs });
const double = (decoder: string, bytes = raised): CodeElement => ({ decoder, width: 2, bytes });

const ASCII = single('utf-8');
/** Escape sequences, without their ESC (PS3.3, tables C.12-3 and C.12-4): G0 is the lower half, G1 the upper. */
const ESCAPES: readonly (readonly [sequence: string, half: 'g0' | 'g1', element: CodeElement])[] = [
  ['(B', 'g0', ASCII],
  ['(J', 'g0', single('shift_jis')],
  [')I', 'g1', single('shift_jis')],
  ['$B', 'g0', double('euc-jp')],
  ['$@', 'g0', double('euc-jp')],
  ['$(D', 'g0', double('euc-jp', (character) => Buffer.concat([Buffer.of(0x8f), raised(character)]))],
  ['$)C', 'g1', double('euc-kr', asIs)],
  ['$)A', 'g1', double('gbk', asIs)],
  ['-A', 'g1', single('iso-8859-1')],
  ['-B', 'g1', single('iso-8859-2')],
  ['-C', 'g1', single('iso-8859-3')],
  ['-D', 'g1', single('iso-8859-4')],
  ['-F', 'g1', single('iso-8859-7')],
  ['-G', 'g1', single('iso-8859-6')],
  ['-H', 'g1', single('iso-8859-8')],
  ['-L', 'g1', single('iso-8859-5')],
  ['-M', 'g1', single('iso-8859-9')],
  ['-b', 'g1', single('iso-8859-15')],
  ['-T', 'g1', single('windows-874')],
];

/**
 * Text in the character sets that SpecificCharacterSet names, with the code extensions of ISO 2022 (PS3.5, 6.1.2).
 *
 * Always well-formed Unicode. Text that is not valid in its set, or has no set and is not ASCII, is read as UTF-8 if it is
 * valid UTF-8, else as Latin-1 or with U+FFFD for unreadable bytes, with a warning.
 */
export function inBytes(bytes: Buffer, sets: readonly string[], warnings: string[]): string {
  if (bytes.every((byte) => byte < 0x80 && byte !== 0x1b)) return bytes.toString('latin1');
  const first = (sets[0] ?? '').replace('ISO 2022 IR', 'ISO_IR');
  const isExtended = sets.some((set) => set.startsWith('ISO 2022')) || bytes.includes(0x1b);
  const decoder = PLAIN[first];
  const text =
    isExtended && decoder !== 'utf-8' && decoder !== 'gb18030' && decoder !== 'gbk'
      ? extended(bytes, decoder)
      : decoder && decode(decoder, bytes);
  if (text !== undefined && !text.includes('\ufffd')) return text;
  warnings.push('text is not in the character set that the file names');
  return decode('utf-8', bytes) ?? text ?? bytes.toString('latin1');
}

/** Undefined where the bytes are not valid. */
function decode(decoder: string, bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder(decoder, { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** Delimiters and line ends switch back to the first set (PS3.5, 6.1.2.5.3). */
const RESETS = new Set(Buffer.from('\\^=\r\n\f\t'));

function extended(bytes: Buffer, decoder = 'iso-8859-1'): string {
  const initial = { g0: decoder === 'shift_jis' ? single(decoder) : ASCII, g1: single(decoder) };
  let { g0, g1 } = initial;
  let text = '';
  for (let at = 0; at < bytes.length;) {
    const byte = bytes[at] ?? 0;
    if (byte === 0x1b) {
      const escape = ESCAPES.find(
        ([sequence]) => bytes.toString('latin1', at + 1, at + 1 + sequence.length) === sequence,
      );
      if (escape === undefined) {
        text += '\ufffd';
        at += 1;
        continue;
      }
      const [sequence, half, element] = escape;
      if (half === 'g0') g0 = element;
      else g1 = element;
      at += 1 + sequence.length;
      continue;
    }
    const { decoder: name, width, bytes: raw } = byte < 0x80 ? g0 : g1;
    // Spaces and control characters are one byte in every set.
    const isControl = byte <= 0x20;
    const length = isControl ? 1 : width;
    text += isControl
      ? String.fromCharCode(byte)
      : (decode(name, raw(bytes.subarray(at, at + length))) ?? '\ufffd');
    at += length;
    if (RESETS.has(byte) && length === 1) ({ g0, g1 } = initial);
  }
  return text;
}
