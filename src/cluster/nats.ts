import { setTimeout } from 'node:timers/promises';
import type { NatsConnection } from '@nats-io/transport-node';
import type { Cluster } from '../core/config/pipeline.js';
import { messageOf, RxrayError } from '../core/errors.js';
import type { Log } from '../core/plugin.js';
import { natsAccess, type NatsAccess } from './nats-access.js';
import { decode, encode, type Beacon, type ToHead, type ToWorker } from './protocol.js';

export const NATS_INSTALL = 'npm install @nats-io/transport-node@3.3.1';

/** A connection to the NATS servers that reconnects without limit. */
export interface Bus {
  /** Maximum size of a message in bytes. */
  readonly maxBytes: number;
  publish(subject: string, message: Beacon | ToHead | ToWorker): void;
  /** Resolves when the servers have everything that was published. */
  flush(): Promise<void>;
  /** Returns a function that ends it. */
  subscribe(subject: string, heard: (message: unknown) => void): () => void;
  /** Sends pending messages, and closes. */
  close(): Promise<void>;
}

export interface BusOptions {
  /** Of this client, for the servers' administrators. */
  readonly name: string;
  readonly log: Log;
  /** The connection is lost or regained. */
  readonly onConnected?: (isConnected: boolean) => void;
  /** Ends the attempts to connect. */
  readonly signal?: AbortSignal;
}

/**
 * Connects, without a time limit. Throws CONFIG_CREATE if the servers refuse this client. If they refuse it later, it goes
 * on trying: its credentials may be renewed.
 */
export async function openBus(
  nats: Cluster['with'],
  { name, log, onConnected = () => undefined, signal }: BusOptions,
): Promise<Bus> {
  const client = await import('@nats-io/transport-node').catch((cause: unknown) => {
    throw new RxrayError('CONFIG_CREATE', `\`cluster:\` needs a package: ${NATS_INSTALL}`, { cause });
  });
  const access = natsAccess(nats, client, log);
  const connect = (reconnect: boolean): Promise<NatsConnection> =>
    client.connect({
      ...{ servers: access.hosts, name, ...access.options },
      ...{ maxReconnectAttempts: -1, reconnectTimeWait: RETRY_MS, pingInterval: 2000, timeout: CONNECT_MS },
      ...{ reconnect, ignoreAuthErrorAbort: true },
    });
  /** Rejects with the reason why no connection can be made: a client that reconnects has none, or only that it took too long. */
  const probe = async (): Promise<void> => (await connect(false)).close();
  const attempt = async (): Promise<NatsConnection> => {
    await probe();
    return connect(true);
  };
  const connection = await persist(attempt, access, log, signal);
  void watch(connection, probe, access, log, onConnected);
  return {
    maxBytes: connection.info?.max_payload ?? 1024 * 1024,
    publish: (subject, message) => {
      if (connection.isClosed()) return;
      try {
        connection.publish(subject, encode(message));
      } catch (error) {
        log.error(
          { subject, kind: 'kind' in message ? message.kind : 'beacon' },
          `not sent: ${messageOf(error)}`,
        );
      }
    },
    flush: () => connection.flush(),
    subscribe: (subject, heard) => {
      const subscription = connection.subscribe(subject, {
        callback: (error, message) => {
          if (error !== null) {
            log.warn({ subject }, `a subscription failed: ${error.message}`);
            return;
          }
          let decoded: unknown;
          try {
            decoded = decode(message.data);
          } catch (thrown) {
            log.warn({ subject }, `an unknown message: ${messageOf(thrown)}`);
            return;
          }
          heard(decoded);
        },
      });
      return () => {
        subscription.unsubscribe();
      };
    },
    close: async () => {
      if (connection.isClosed()) return;
      // Without a connection nothing can be sent.
      await Promise.race([
        connection.drain().catch(() => undefined),
        setTimeout(CLOSE_MS, undefined, { ref: false }),
      ]);
      await connection.close();
    },
  };
}

const CLOSE_MS = 2000;
const RETRY_MS = 500;
/** Time limit for making a connection. */
const CONNECT_MS = 10_000;

/** Repeats an attempt to connect, and logs why it fails. Throws CONFIG_CREATE if this client is refused. */
async function persist(
  attempt: () => Promise<NatsConnection>,
  { hosts, refusal, reason: reasonOf }: NatsAccess,
  log: Log,
  signal?: AbortSignal,
): Promise<NatsConnection> {
  /** A server that ends the connection is seen now by one error, now by another. */
  const said = new Set<string>();
  for (;;) {
    try {
      return await attempt();
    } catch (cause) {
      const refused = refusal(cause);
      if (refused !== undefined) throw new RxrayError('CONFIG_CREATE', refused, { cause });
      const reason = reasonOf(cause);
      if (!said.has(reason)) log.warn({ servers: hosts }, `waiting for the NATS servers: ${reason}`);
      said.add(reason);
    }
    await setTimeout(RETRY_MS, undefined, { signal });
  }
}

async function watch(
  connection: NatsConnection,
  probe: () => Promise<void>,
  { hosts, refusal, reason }: NatsAccess,
  log: Log,
  onConnected: (isConnected: boolean) => void,
): Promise<void> {
  /** What was said of this connection since it was made: errors are repeated with each message, or attempt. */
  const said = new Set<string>();
  const { tls_available: offersTls, tls_required: needsTls } = connection.info ?? {};
  const isEncrypted = offersTls === true || needsTls === true;
  let isConnected = true;
  const isLost = (): boolean => !isConnected && !connection.isClosed();
  /** Shows why there is no connection; the servers' own errors are shown as they come. */
  const explain = async (): Promise<void> => {
    while (isLost()) {
      const error: unknown = await probe().catch((thrown: unknown) => thrown);
      if (!isLost()) return;
      const message = error === undefined || refusal(error) !== undefined ? undefined : reason(error);
      if (message !== undefined && !said.has(message)) {
        log.warn({ servers: hosts }, `waiting for the NATS servers: ${message}`);
        said.add(message);
      }
      await setTimeout(RETRY_MS, undefined, { ref: false });
    }
  };
  for await (const status of connection.status()) {
    if (status.type === 'disconnect' && isConnected) {
      isConnected = false;
      log.warn({}, 'the connection to NATS is lost');
      onConnected(false);
      if (isEncrypted) void explain();
    } else if (status.type === 'reconnect' && !isConnected) {
      isConnected = true;
      said.clear();
      log.info({ server: connection.getServer() }, 'connected to NATS again');
      onConnected(true);
    } else if (status.type === 'error') {
      const message = refusal(status.error) ?? `an error of the NATS servers: ${status.error.message}`;
      if (!said.has(message)) log.error({}, message);
      said.add(message);
    }
  }
}
