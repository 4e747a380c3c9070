import { readFileSync } from 'node:fs';
import type { Authenticator, ConnectionOptions } from '@nats-io/transport-node';
import type { Cluster } from '../core/config/pipeline.js';
import { messageOf, RxrayError } from '../core/errors.js';
import type { Log } from '../core/plugin.js';

type Client = typeof import('@nats-io/transport-node');

/** How a client reaches the NATS servers, and what it shows them. */
export interface NatsAccess {
  /** Host and port, without secrets. */
  readonly hosts: string[];
  readonly options: Pick<ConnectionOptions, 'tls' | 'authenticator'>;
  /** Why the servers refuse a client, without secrets; undefined for other errors. */
  refusal(error: unknown): string | undefined;
}

/**
 * `tls://` at one server asks for TLS at all. A credentials file is read at each connection, so that it can be renewed.
 * Throws CONFIG_CREATE.
 */
export function natsAccess({ servers, credentials }: Cluster['with'], client: Client, log: Log): NatsAccess {
  const addresses = servers.map(addressOf);
  const { user, password } = addresses.find((address) => address.user !== undefined) ?? {};
  let authenticator: Authenticator | undefined;
  let shown = 'a connection without credentials';
  if (credentials !== '') {
    authenticator = fileAuthenticator(credentials, client, log);
    shown = `the credentials ${credentials}`;
  } else if (user !== undefined && password !== undefined) {
    authenticator = client.usernamePasswordAuthenticator(user, password);
    shown = `the user ${user}, or the password`;
  } else if (user !== undefined) {
    authenticator = client.tokenAuthenticator(user);
    shown = 'the token';
  }
  return {
    hosts: addresses.map(({ host }) => host),
    options: {
      ...(addresses.some(({ isTls }) => isTls) && { tls: {} }),
      ...(authenticator !== undefined && { authenticator }),
    },
    refusal: (error) => {
      const { AuthorizationError, UserAuthenticationExpiredError } = client;
      if (!(error instanceof AuthorizationError || error instanceof UserAuthenticationExpiredError)) return;
      const expiry = credentials === '' ? undefined : expiryOf(credentials);
      const reason =
        expiry !== undefined && expiry < new Date()
          ? `they expired at ${expiry.toISOString()}`
          : error.message;
      return `the NATS servers refuse ${shown}: ${reason}`;
    },
  };
}

/** `tls://user:password@host:port`, `nats://token@host`, or `host`. Throws CONFIG_CREATE. */
function addressOf(server: string): { host: string; isTls: boolean; user?: string; password?: string } {
  const [, scheme = 'nats', user, password, host = ''] =
    /^(?:([a-z]+):\/\/)?(?:([^@:]*)(:[^@]*)?@)?([^@/]+)\/?$/.exec(server) ?? [];
  const isKnown = scheme === 'nats' || scheme === 'tls';
  try {
    if (!isKnown || host === '') throw new Error();
    return {
      ...{ host, isTls: scheme === 'tls' },
      ...(user !== undefined && { user: decodeURIComponent(user) }),
      ...(password !== undefined && { password: decodeURIComponent(password.slice(1)) }),
    };
  } catch {
    throw new RxrayError(
      'CONFIG_CREATE',
      'expected `nats://` or `tls://` addresses of NATS servers: `tls://user:password@host:4222` (`%40` for an `@` in a password)',
    );
  }
}

/** Reads the file at each connection. If it cannot be read then, the last credentials are used. Throws CONFIG_CREATE. */
function fileAuthenticator(file: string, { credsAuthenticator }: Client, log: Log): Authenticator {
  const read = (): Authenticator => {
    let bytes: Uint8Array;
    try {
      bytes = readFileSync(file);
    } catch (cause) {
      throw new RxrayError('CONFIG_CREATE', `the credentials ${file} cannot be read: ${messageOf(cause)}`, {
        cause,
      });
    }
    const authenticator = credsAuthenticator(bytes);
    try {
      authenticator('nonce');
    } catch (cause) {
      const message = `${file} is not a credentials file of NATS: ${messageOf(cause)}`;
      throw new RxrayError('CONFIG_CREATE', message, { cause });
    }
    return authenticator;
  };
  let last = read();
  return (nonce) => {
    try {
      last = read();
    } catch (error) {
      log.warn({}, messageOf(error));
    }
    return last(nonce);
  };
}

/** When the JWT of a credentials file expires; undefined: never, or it cannot be read. Source: RFC 7519, 4.1.4. */
function expiryOf(file: string): Date | undefined {
  try {
    const [, payload = ''] = /^[\w-]+\.([\w-]+)\.[\w-]+$/m.exec(readFileSync(file, 'utf8')) ?? [];
    const { exp } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { exp?: number };
    return exp === undefined ? undefined : new Date(1000 * exp);
  } catch {
    return undefined;
  }
}
