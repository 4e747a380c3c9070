import { connect as connectPlain, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import {
  associatePdu,
  COMMAND,
  type Command,
  commandBytes,
  dataPdus,
  FIELD,
  fragmentsIn,
  MAX_COMMAND,
  PDU,
  pdu,
  type Pdu,
  ProtocolError,
  readAssociate,
  readCommand,
  readPdus,
  STATUS,
} from './pdu.js';
import { EXPLICIT } from './syntaxes.js';

/** An object to send: its data set in explicit VR little endian, without a meta header. */
export interface ObjectToSend {
  readonly sopClass: string;
  readonly instance: string;
  readonly dataSet: Buffer;
}

export interface ScuOptions {
  readonly host: string;
  readonly port: number;
  /** The AE title of the receiver. */
  readonly called: string;
  /** Our own AE title. */
  readonly calling: string;
  /** Time limit for each answer of the receiver. */
  readonly timeoutMs: number;
  readonly tls?: ConnectionOptions | undefined;
  readonly signal: AbortSignal;
}

/** The receiver has rejected the association, or ended it: `reason` is for the log. */
export class AssociationError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'AssociationError';
  }
}

const MAX_PDU = 128 * 1024;

/**
 * Sends objects in one association, one after the other (C-STORE, PS3.7, 9.1.1). Returns the status of each: 0 for success;
 * 0x0122 if the receiver does not accept the SOP class. Rejects if there is no association, or if it ends early.
 */
export async function store(objects: readonly ObjectToSend[], options: ScuOptions): Promise<number[]> {
  const { host, port, tls, timeoutMs, signal } = options;
  const socket: Socket =
    tls === undefined ? connectPlain({ host, port }) : connectTls({ host, port, ...tls });
  const abort = (): void => void socket.destroy(new AssociationError('the run is being ended'));
  signal.addEventListener('abort', abort);
  socket.setTimeout(timeoutMs, () => {
    socket.destroy(new AssociationError(`it did not answer within ${timeoutMs} ms`));
  });
  // Reading from the socket reports errors.
  socket.on('error', () => undefined);
  try {
    return await exchange(socket, objects, options);
  } finally {
    signal.removeEventListener('abort', abort);
    socket.destroy();
  }
}

async function exchange(
  socket: Socket,
  objects: readonly ObjectToSend[],
  { called, calling }: ScuOptions,
): Promise<number[]> {
  const pdus = readPdus(socket.iterator({ destroyOnReturn: false }), MAX_PDU);
  const classes = [...new Set(objects.map(({ sopClass }) => sopClass))];
  const proposed = classes.map((abstractSyntax, i) => ({
    id: 2 * i + 1,
    abstractSyntax,
    transferSyntaxes: [EXPLICIT],
    result: 0,
  }));
  await send(
    socket,
    associatePdu(PDU.associateRequest, { called, calling, contexts: proposed, maxLength: MAX_PDU }),
  );
  const answer = await next(pdus);
  if (answer.type === PDU.associateReject) throw rejection(answer.body);
  if (answer.type !== PDU.associateAccept)
    throw new ProtocolError(`a PDU of type ${answer.type} is not expected here`);
  const { contexts, maxLength } = readAssociate(answer.body);
  // Objects are in explicit VR, the only syntax offered.
  const accepted = new Set(
    contexts
      .filter(({ result, transferSyntaxes: [syntax] }) => result === 0 && syntax === EXPLICIT)
      .map(({ id }) => id),
  );

  const statuses: number[] = [];
  for (const [i, { sopClass, instance, dataSet }] of objects.entries()) {
    const context = proposed.find(({ abstractSyntax }) => abstractSyntax === sopClass)?.id ?? 0;
    if (!accepted.has(context)) {
      statuses.push(STATUS.sopClassNotSupported);
      continue;
    }
    const command: Command = new Map<number, string | number>([
      [FIELD.sopClass, sopClass],
      [FIELD.command, COMMAND.store],
      [FIELD.messageId, i + 1],
      [FIELD.priority, 0],
      [FIELD.dataSetType, 1],
      [FIELD.instance, instance],
    ]);
    for (const part of dataPdus(context, true, commandBytes(command), maxLength)) await send(socket, part);
    for (const part of dataPdus(context, false, dataSet, maxLength)) await send(socket, part);
    statuses.push(await statusOf(pdus));
  }
  await send(socket, pdu(PDU.releaseRequest, Buffer.alloc(4)));
  // All objects have been answered: an error in ending the association does not matter.
  await next(pdus).catch(() => undefined);
  return statuses;
}

async function statusOf(pdus: AsyncGenerator<Pdu>): Promise<number> {
  const parts: Buffer[] = [];
  let length = 0;
  for (;;) {
    const { type, body } = await next(pdus);
    if (type !== PDU.data) throw new ProtocolError(`a PDU of type ${type} is not expected here`);
    for (const { isCommand, isLast, bytes } of fragmentsIn(body)) {
      if (!isCommand) throw new ProtocolError('a data set in the answer to a C-STORE');
      length += bytes.length;
      if (length > MAX_COMMAND) throw new ProtocolError('the answer to a C-STORE is too long');
      parts.push(bytes);
      if (isLast)
        return Number(readCommand(Buffer.concat(parts)).get(FIELD.status) ?? STATUS.processingFailure);
    }
  }
}

async function next(pdus: AsyncGenerator<Pdu>): Promise<Pdu> {
  const result: IteratorResult<Pdu, unknown> = await pdus.next();
  if (result.done === true) throw new AssociationError('it closed the connection');
  const { value } = result;
  if (value.type === PDU.abort) throw new AssociationError('it aborted the association');
  return value;
}

function rejection(body: Buffer): AssociationError {
  const [source, reason] = [body.at(2) ?? 0, body.at(3) ?? 0] as const;
  const known: Readonly<Record<string, string>> = {
    '1.3': 'it does not know our AE title (`aeTitle`)',
    '1.7': 'it does not have the AE title that we call (`called`)',
  };
  const why = known[`${source}.${reason}`] ?? `source ${source}, reason ${reason}`;
  return new AssociationError(`it rejected the association: ${why}`);
}

function send(socket: Socket, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}
