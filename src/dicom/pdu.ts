/** Types of protocol data units (PS3.8, 9.3). */
export const PDU = {
  associateRequest: 1,
  associateAccept: 2,
  associateReject: 3,
  data: 4,
  releaseRequest: 5,
  releaseReply: 6,
  abort: 7,
} as const;

export interface Pdu {
  readonly type: number;
  /** Without the six bytes of the header. */
  readonly body: Buffer;
}

/** The peer violates the protocol or the limits: the association must be aborted. */
export class ProtocolError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ProtocolError';
  }
}

/** What each side declares when an association begins. */
export interface Associate {
  readonly called: string;
  readonly calling: string;
  readonly contexts: readonly PresentationContext[];
  /** The largest P-DATA that it accepts, in bytes; 0: no limit. */
  readonly maxLength: number;
}

export interface PresentationContext {
  readonly id: number;
  /** Missing in an acceptance. */
  readonly abstractSyntax?: string;
  /** Those proposed, or the one accepted. */
  readonly transferSyntaxes: readonly string[];
  /** 0: accepted; other values are reasons for rejection (PS3.8, table 9-18). */
  readonly result: number;
}

/** Reasons of a rejection (PS3.8, 9.3.4): result, source, reason. */
export const REJECTIONS = {
  calledUnknown: [1, 1, 7],
  callingUnknown: [1, 1, 3],
  contextUnknown: [1, 1, 2],
  tooMany: [2, 3, 2],
} as const;

const APPLICATION_CONTEXT = '1.2.840.10008.3.1.1.1';
/** Identifies this program (PS3.7, D.3.3.2): 2.25 and a UUID, which needs no registration. */
export const IMPLEMENTATION_UID = '2.25.302437459382615746592386150573298841537';
export const IMPLEMENTATION_NAME = 'RXRAY';
/** An association request has a few kilobytes; 128 contexts with all their syntaxes stay below this. */
const MAX_ASSOCIATE = 1024 * 1024;
const HEADER = 6;
/** Presentation contexts have odd numbers of one byte (PS3.8, 9.3.2.2). */
const MAX_CONTEXTS = 128;
/** The smallest PDU length that a peer may request: enough for a fragment's header and some of its bytes. */
const MIN_PDU = 64;

/** Splits a stream of bytes into PDUs. Throws {@link ProtocolError} for an unknown type, or a PDU that is too long, before it is read. */
export async function* readPdus(chunks: AsyncIterable<Buffer>, maxData: number): AsyncGenerator<Pdu> {
  let held: Buffer[] = [];
  let size = 0;
  let wanted = HEADER;
  for await (const chunk of chunks) {
    held.push(chunk);
    size += chunk.length;
    while (size >= wanted) {
      const bytes = held.length === 1 ? (held[0] ?? Buffer.alloc(0)) : Buffer.concat(held);
      const type = bytes[0] ?? 0;
      const length = bytes.readUInt32BE(2);
      checkHeader(type, length, maxData);
      wanted = HEADER + length;
      if (size < wanted) {
        held = [bytes];
        break;
      }
      yield { type, body: bytes.subarray(HEADER, wanted) };
      held = [bytes.subarray(wanted)];
      size -= wanted;
      wanted = HEADER;
    }
  }
}

function checkHeader(type: number, length: number, maxData: number): void {
  if (type < PDU.associateRequest || type > PDU.abort) throw new ProtocolError(`unknown PDU type ${type}`);
  const most = type === PDU.data ? maxData : type <= PDU.associateReject ? MAX_ASSOCIATE : 4;
  if (length > most)
    throw new ProtocolError(`a PDU of type ${type} has ${length} bytes, at most ${most} are taken`);
}

export function pdu(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const header = Buffer.alloc(HEADER);
  header[0] = type;
  header.writeUInt32BE(length, 2);
  return Buffer.concat([header, ...parts]);
}

// ── association ───────────────────────────────────────────────────────────────────────────────────

/** The PDU of a request or of an acceptance. */
export function associatePdu(type: 1 | 2, { called, calling, contexts, maxLength }: Associate): Buffer {
  const fixed = Buffer.alloc(68);
  fixed.writeUInt16BE(1, 0);
  fixed.write(called.padEnd(16), 4, 16, 'latin1');
  fixed.write(calling.padEnd(16), 20, 16, 'latin1');
  const length = Buffer.alloc(4);
  length.writeUInt32BE(maxLength);
  return pdu(
    type,
    fixed,
    item(0x10, Buffer.from(APPLICATION_CONTEXT)),
    ...contexts.map(({ id, abstractSyntax, transferSyntaxes, result }) =>
      item(
        type === PDU.associateRequest ? 0x20 : 0x21,
        Buffer.of(id, 0, result, 0),
        ...(abstractSyntax === undefined ? [] : [item(0x30, Buffer.from(abstractSyntax))]),
        ...transferSyntaxes.map((uid) => item(0x40, Buffer.from(uid))),
      ),
    ),
    item(
      0x50,
      item(0x51, length),
      item(0x52, Buffer.from(IMPLEMENTATION_UID)),
      item(0x55, Buffer.from(IMPLEMENTATION_NAME)),
    ),
  );
}

/** Reads a request or an acceptance. Throws {@link ProtocolError}. */
export function readAssociate(body: Buffer): Associate {
  if (body.length < 68) throw new ProtocolError('an association PDU ends too early');
  const contexts: PresentationContext[] = [];
  let maxLength = 0;
  for (const [type, value] of itemsIn(body.subarray(68))) {
    if (type === 0x20 || type === 0x21) {
      if (value.length < 4) throw new ProtocolError('a presentation context ends too early');
      const parts = [...itemsIn(value.subarray(4))];
      const uids = (kind: number) => parts.filter(([each]) => each === kind).map(([, uid]) => uidIn(uid));
      const [abstractSyntax] = uids(0x30);
      contexts.push({
        id: value[0] ?? 0,
        result: value[2] ?? 0,
        transferSyntaxes: uids(0x40),
        ...(abstractSyntax !== undefined && { abstractSyntax }),
      });
    } else if (type === 0x50) {
      for (const [kind, part] of itemsIn(value)) {
        if (kind === 0x51 && part.length >= 4) maxLength = part.readUInt32BE(0);
      }
    }
  }
  if (contexts.length > MAX_CONTEXTS)
    throw new ProtocolError(`${contexts.length} presentation contexts, at most ${MAX_CONTEXTS} are possible`);
  if (maxLength > 0 && maxLength < MIN_PDU)
    throw new ProtocolError(`the peer takes PDUs of at most ${maxLength} bytes: nothing fits into them`);
  const title = (at: number): string => body.toString('latin1', at, at + 16).trim();
  return { called: title(4), calling: title(20), contexts, maxLength };
}

function item(type: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const header = Buffer.alloc(4);
  header[0] = type;
  header.writeUInt16BE(length, 2);
  return Buffer.concat([header, ...parts]);
}

function* itemsIn(bytes: Buffer): Generator<readonly [type: number, value: Buffer]> {
  for (let at = 0; at < bytes.length;) {
    const end = at + 4 <= bytes.length ? at + 4 + bytes.readUInt16BE(at + 2) : Infinity;
    if (end > bytes.length) throw new ProtocolError('an item of an association PDU ends beyond it');
    yield [bytes[at] ?? 0, bytes.subarray(at + 4, end)];
    at = end;
  }
}

function uidIn(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/[\0 ]+$/, '');
}

// ── data ──────────────────────────────────────────────────────────────────────────────────────────

/** A fragment of a command or of a data set. */
export interface Fragment {
  readonly context: number;
  readonly isCommand: boolean;
  readonly isLast: boolean;
  readonly bytes: Buffer;
}

/** The fragments of a P-DATA. Throws {@link ProtocolError}. */
export function* fragmentsIn(body: Buffer): Generator<Fragment> {
  if (body.length === 0) throw new ProtocolError('a P-DATA without a fragment');
  for (let at = 0; at < body.length;) {
    const end = at + 4 <= body.length ? at + 4 + body.readUInt32BE(at) : Infinity;
    if (end > body.length || end < at + 6) throw new ProtocolError('a fragment does not fit its PDU');
    const control = body[at + 5] ?? 0;
    yield {
      context: body[at + 4] ?? 0,
      isCommand: (control & 1) !== 0,
      isLast: (control & 2) !== 0,
      bytes: body.subarray(at + 6, end),
    };
    at = end;
  }
}

/** The P-DATA PDUs that carry `bytes`, none longer than `maxLength`. */
export function* dataPdus(
  context: number,
  isCommand: boolean,
  bytes: Buffer,
  maxLength: number,
): Generator<Buffer> {
  const most = Math.min(maxLength === 0 ? Infinity : maxLength, 128 * 1024) - 6;
  for (let at = 0; at === 0 || at < bytes.length; at += most) {
    const part = bytes.subarray(at, at + most);
    const header = Buffer.alloc(6);
    header.writeUInt32BE(part.length + 2);
    header[4] = context;
    header[5] = (isCommand ? 1 : 0) | (at + most >= bytes.length ? 2 : 0);
    yield pdu(PDU.data, header, part);
  }
}

// ── commands ──────────────────────────────────────────────────────────────────────────────────────

/** Command fields (PS3.7, E.1). */
export const COMMAND = { store: 0x0001, storeReply: 0x8001, echo: 0x0030, echoReply: 0x8030 } as const;

/** A command set has some hundred bytes. */
export const MAX_COMMAND = 64 * 1024;

/** Statuses of C-STORE (PS3.4, B.2.3) and of any service (PS3.7, C). */
export const STATUS = {
  success: 0x0000,
  sopClassNotSupported: 0x0122,
  invalidInstance: 0x0117,
  unrecognized: 0x0211,
  processingFailure: 0x0110,
  outOfResources: 0xa700,
} as const;

/** The elements of a command set, by the number of their element in group 0. */
export type Command = ReadonlyMap<number, string | number>;

export const FIELD = {
  sopClass: 0x0002,
  command: 0x0100,
  messageId: 0x0110,
  repliedTo: 0x0120,
  priority: 0x0700,
  dataSetType: 0x0800,
  status: 0x0900,
  comment: 0x0902,
  instance: 0x1000,
} as const;
const TEXT: ReadonlySet<number> = new Set([FIELD.sopClass, FIELD.comment, FIELD.instance]);
export const NO_DATA_SET = 0x0101;

/** A command set: implicit VR, little endian (PS3.7, 6.3.1). */
export function commandBytes(fields: Command): Buffer {
  const elements = [...fields]
    .sort(([a], [b]) => a - b)
    .map(([number, value]) => {
      const bytes = typeof value === 'string' ? Buffer.from(padded(value), 'latin1') : Buffer.alloc(2);
      if (typeof value === 'number') bytes.writeUInt16LE(value);
      return element(number, bytes);
    });
  const rest = Buffer.concat(elements);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(rest.length);
  return Buffer.concat([element(0, length), rest]);
}

function padded(text: string): string {
  return text.length % 2 === 0 ? text : `${text}\0`;
}

function element(number: number, value: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16LE(number, 2);
  header.writeUInt32LE(value.length, 4);
  return Buffer.concat([header, value]);
}

/** Throws {@link ProtocolError}. */
export function readCommand(bytes: Buffer): Command {
  const fields = new Map<number, string | number>();
  for (let at = 0; at < bytes.length;) {
    const end = at + 8 <= bytes.length ? at + 8 + bytes.readUInt32LE(at + 4) : Infinity;
    if (end > bytes.length || bytes.readUInt16LE(at) !== 0)
      throw new ProtocolError('a malformed command set');
    const number = bytes.readUInt16LE(at + 2);
    const value = bytes.subarray(at + 8, end);
    if (TEXT.has(number)) fields.set(number, uidIn(value));
    else if (value.length >= 2) fields.set(number, value.readUInt16LE(0));
    at = end;
  }
  return fields;
}
