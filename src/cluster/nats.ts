import { readFile } from 'node:fs/promises';
import type { NatsConnection } from '@nats-io/transport-node';
import type { Cluster } from '../core/config/pipeline.js';
import { messageOf, RxrayError } from '../core/errors.js';
import type { Log } from '../core/plugin.js';
import { decode, encode, type Beacon, type ToHead, type ToWorker } from './protocol.js';

export const NATS_INSTALL = 'npm install @nats-io/transport-node@3.3.1';

/** A connection to the NATS servers that reconnects without limit. */
export interface Bus {
  /** Maximum size of a message in bytes. */
  readonly maxBytes: number;
  publish(subject: string, message: Beacon | ToHead | ToWorker): void;
  /** Returns a function that ends it. */
  subscribe(subject: string, heard: (message: unknown) => void): () => void;
  /** Sends pending messages, and closes. */
  close(): Promise<void>;
}

/**
 * Connects, without a time limit; `onConnected` is called when the connection is lost or regained. Throws
 * CONFIG_CREATE.
 */
export async function openBus(
  { servers, credentials }: Cluster['with'],
  name: string,
  log: Log,
  onConnected: (isConnected: boolean) => void,
): Promise<Bus> {
  const { connect, credsAuthenticator } = await import('@nats-io/transport-node').catch((cause: unknown) => {
    throw new RxrayError('CONFIG_CREATE', `\`cluster:\` needs a package: ${NATS_INSTALL}`, { cause });
  });
  let authenticator;
  if (credentials !== '') {
    const bytes = await readFile(credentials).catch((cause: unknown) => {
      throw new RxrayError(
        'CONFIG_CREATE',
        `the credentials ${credentials} cannot be read: ${messageOf(cause)}`,
        { cause },
      );
    });
    authenticator = credsAuthenticator(bytes);
  }
  const patience = setTimeout(() => {
    log.warn({ servers }, 'waiting for the NATS servers');
  }, 3000);
  let connection: NatsConnection;
  try {
    connection = await connect({
      servers: [...servers],
      name,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 500,
      pingInterval: 2000,
      waitOnFirstConnect: true,
      ...(authenticator !== undefined && { authenticator }),
    });
  } catch (cause) {
    throw new RxrayError('CONFIG_CREATE', `the NATS servers refuse the connection: ${messageOf(cause)}`, {
      cause,
    });
  } finally {
    clearTimeout(patience);
  }
  void watch(connection, log, onConnected);
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
      await Promise.race([connection.drain().catch(() => undefined), timeout(CLOSE_MS)]);
      await connection.close();
    },
  };
}

const CLOSE_MS = 2000;

function timeout(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

async function watch(
  connection: NatsConnection,
  log: Log,
  onConnected: (isConnected: boolean) => void,
): Promise<void> {
  for await (const { type } of connection.status()) {
    if (type === 'disconnect') {
      log.warn({}, 'the connection to NATS is lost');
      onConnected(false);
    } else if (type === 'reconnect') {
      log.info({ server: connection.getServer() }, 'connected to NATS again');
      onConnected(true);
    }
  }
}
