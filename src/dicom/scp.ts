import type { Socket } from 'node:net';
import {
  associatePdu,
  type Associate,
  COMMAND,
  type Command,
  commandBytes,
  dataPdus,
  FIELD,
  type Fragment,
  fragmentsIn,
  MAX_COMMAND,
  NO_DATA_SET,
  PDU,
  pdu,
  type PresentationContext,
  ProtocolError,
  readAssociate,
  readCommand,
  readPdus,
  REJECTIONS,
  STATUS,
} from './pdu.js';
import type { Identity } from './part10.js';
import { EXPLICIT, IMPLICIT, SYNTAXES } from './syntaxes.js';

export const VERIFICATION = '1.2.840.10008.1.1';
/** Storage SOP classes (PS3.4, B.5). */
const STORAGE = /^1\.2\.840\.10008\.5\.1\.4\.1\.1\.[\d.]{1,40}$/;

/** Receives one object. {@link discard}, called instead of {@link commit}, removes everything written of it. */
export interface Receipt {
  write(bytes: Buffer): Promise<void>;
  /** Resolves with the status for the sender, when the object is durable or has been discarded. */
  commit(): Promise<number>;
  discard(): Promise<void>;
}

export interface ScpOptions {
  readonly aeTitle: string;
  /** The longest accepted P-DATA, in bytes. */
  readonly maxPdu: number;
  /** Time limit for a PDU. */
  readonly timeoutMs: number;
  /** Whether the calling AE title may send from the address of this socket. */
  readonly allows: (calling: string) => boolean;
  /** Accepts an object, or refuses it with a status. */
  readonly receive: (identity: Identity) => Promise<Receipt | number>;
}

/**
 * Serves one association to its end: C-ECHO and C-STORE (PS3.7, 9.1; PS3.8, 9.2). Resolves when the socket is closed.
 *
 * PDUs are handled one by one, and reading pauses meanwhile, so that at most one PDU is in memory. Rejects with
 * {@link ProtocolError} if the peer violates the protocol; the association has been aborted then.
 */
export async function serveAssociation(socket: Socket, options: ScpOptions): Promise<void> {
  socket.setTimeout(options.timeoutMs, () => {
    socket.destroy(new ProtocolError(`the peer said nothing for ${options.timeoutMs} ms`));
  });
  let association: Association | undefined;
  // Single bytes now and then do not extend the time limit.
  const deadline = (): NodeJS.Timeout =>
    setTimeout(() => {
      socket.destroy(new ProtocolError(`the peer sent no whole PDU within ${options.timeoutMs} ms`));
    }, options.timeoutMs);
  let timer = deadline();
  try {
    for await (const { type, body } of readPdus(
      socket.iterator({ destroyOnReturn: false }),
      options.maxPdu,
    )) {
      clearTimeout(timer);
      if (association === undefined) {
        if (type !== PDU.associateRequest) throw new ProtocolError('expected an association request');
        const request = readAssociate(body);
        const refusal = refusalOf(request, options);
        if (refusal !== undefined) {
          socket.end(pdu(PDU.associateReject, Buffer.of(0, ...refusal)));
          return;
        }
        association = new Association(socket, request, options);
        await association.accept();
      } else if (type === PDU.data) {
        for (const fragment of fragmentsIn(body)) await association.take(fragment);
      } else if (type === PDU.releaseRequest) {
        socket.end(pdu(PDU.releaseReply, Buffer.alloc(4)));
        return;
      } else if (type === PDU.abort) {
        return;
      } else {
        throw new ProtocolError(`a PDU of type ${type} is not expected here`);
      }
      timer = deadline();
    }
  } catch (error) {
    if (error instanceof ProtocolError && socket.writable) {
      socket.end(pdu(PDU.abort, Buffer.of(0, 0, 2, 0)));
    }
    throw error;
  } finally {
    clearTimeout(timer);
    await association?.end();
    if (!socket.writableEnded) socket.destroy();
    else socket.destroySoon();
  }
}

function refusalOf(
  { called, calling }: Associate,
  { aeTitle, allows }: ScpOptions,
): readonly number[] | undefined {
  if (called !== aeTitle) return REJECTIONS.calledUnknown;
  return allows(calling) ? undefined : REJECTIONS.callingUnknown;
}

class Association {
  readonly #contexts: ReadonlyMap<number, PresentationContext>;
  /** The syntax of each accepted context. */
  readonly #syntaxes = new Map<number, string>();
  #command: Buffer[] = [];
  #commandBytes = 0;
  /** The C-STORE whose data set is being received. */
  #storing:
    | { readonly request: Command; readonly context: number; receipt: Receipt | undefined; status: number }
    | undefined;

  constructor(
    private readonly socket: Socket,
    private readonly request: Associate,
    private readonly options: ScpOptions,
  ) {
    this.#contexts = new Map(request.contexts.map((context) => [context.id, context]));
  }

  async accept(): Promise<void> {
    const contexts = this.request.contexts.map((context): PresentationContext => {
      const { id, abstractSyntax = '', transferSyntaxes } = context;
      const isKnown = abstractSyntax === VERIFICATION || STORAGE.test(abstractSyntax);
      const syntax = transferSyntaxes.find((uid) => isAccepted(uid, abstractSyntax));
      if (isKnown && syntax !== undefined) this.#syntaxes.set(id, syntax);
      // PS3.8, table 9-18: 3 abstract syntax, 4 transfer syntaxes not supported. A rejected context must name one, too.
      const result = !isKnown ? 3 : syntax === undefined ? 4 : 0;
      return { id, result, transferSyntaxes: [syntax ?? transferSyntaxes[0] ?? IMPLICIT] };
    });
    const { called, calling } = this.request;
    await this.#send(
      associatePdu(PDU.associateAccept, { called, calling, contexts, maxLength: this.options.maxPdu }),
    );
  }

  async take({ context, isCommand, isLast, bytes }: Fragment): Promise<void> {
    if (!this.#syntaxes.has(context))
      throw new ProtocolError('a fragment of a context that was not accepted');
    if (!isCommand) {
      await this.#takeData(context, bytes, isLast);
      return;
    }
    if (this.#storing !== undefined) throw new ProtocolError('a command inside a data set');
    this.#commandBytes += bytes.length;
    if (this.#commandBytes > MAX_COMMAND) throw new ProtocolError('a command set is too long');
    this.#command.push(Buffer.from(bytes));
    if (!isLast) return;
    const command = readCommand(Buffer.concat(this.#command));
    this.#command = [];
    this.#commandBytes = 0;
    await this.#perform(context, command);
  }

  /** The association has ended: an incomplete object is discarded. */
  async end(): Promise<void> {
    const storing = this.#storing;
    this.#storing = undefined;
    await storing?.receipt?.discard();
  }

  async #perform(context: number, command: Command): Promise<void> {
    const hasData = command.get(FIELD.dataSetType) !== NO_DATA_SET;
    switch (command.get(FIELD.command)) {
      case COMMAND.echo:
        await this.#reply(context, command, COMMAND.echoReply, STATUS.success);
        return;
      case COMMAND.store: {
        if (!hasData) throw new ProtocolError('a C-STORE without a data set');
        const sopClass = String(command.get(FIELD.sopClass) ?? '');
        const instance = String(command.get(FIELD.instance) ?? '');
        const offered = this.#contexts.get(context)?.abstractSyntax;
        const syntax = this.#syntaxes.get(context) ?? '';
        const taken =
          sopClass === offered
            ? await this.options.receive({ sopClass, instance, syntax })
            : STATUS.sopClassNotSupported;
        this.#storing =
          typeof taken === 'number'
            ? { request: command, context, receipt: undefined, status: taken }
            : { request: command, context, receipt: taken, status: STATUS.success };
        return;
      }
      default:
        if (hasData) throw new ProtocolError('a command that is not known, with a data set');
        await this.#reply(
          context,
          command,
          Number(command.get(FIELD.command) ?? 0) | 0x8000,
          STATUS.unrecognized,
        );
    }
  }

  async #takeData(context: number, bytes: Buffer, isLast: boolean): Promise<void> {
    const storing = this.#storing;
    if (storing?.context !== context) throw new ProtocolError('a data set without a command');
    // A refused object is still read to its end: the sender waits for the answer until then.
    await storing.receipt?.write(bytes);
    if (!isLast) return;
    const status = (await storing.receipt?.commit()) ?? storing.status;
    this.#storing = undefined;
    await this.#reply(context, storing.request, COMMAND.storeReply, status);
  }

  async #reply(context: number, request: Command, command: number, status: number): Promise<void> {
    const fields = new Map<number, string | number>([
      [FIELD.command, command],
      [FIELD.repliedTo, Number(request.get(FIELD.messageId) ?? 0)],
      [FIELD.dataSetType, NO_DATA_SET],
      [FIELD.status, status],
    ]);
    for (const name of [FIELD.sopClass, FIELD.instance]) {
      const value = request.get(name);
      if (value !== undefined) fields.set(name, value);
    }
    for (const part of dataPdus(context, true, commandBytes(fields), this.request.maxLength)) {
      await this.#send(part);
    }
  }

  #send(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.socket.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }
}

function isAccepted(syntax: string, abstractSyntax: string): boolean {
  if (abstractSyntax === VERIFICATION) return syntax === IMPLICIT || syntax === EXPLICIT;
  return SYNTAXES.get(syntax)?.coding !== undefined;
}
