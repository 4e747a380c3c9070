import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { isIP } from 'node:net';
import { checkServerIdentity, createSecureContext, type ConnectionOptions } from 'node:tls';
import type { Authenticator, ConnectionOptions as NatsOptions, TlsOptions } from '@nats-io/transport-node';
import type { Cluster } from '../core/config/pipeline.js';
import { messageOf, RxrayError } from '../core/errors.js';
import type { Log } from '../core/plugin.js';

type Client = typeof import('@nats-io/transport-node');

/** How a client reaches the NATS servers, and what it shows them. */
export interface NatsAccess {
  /** Host and port, without secrets. */
  readonly hosts: string[];
  readonly options: Pick<NatsOptions, 'tls' | 'authenticator'>;
  /** Why the servers refuse a client, without secrets; undefined for other errors. */
  refusal(error: unknown): string | undefined;
  /** Why a connection failed, for other errors. */
  reason(error: unknown): string;
}

type Nats = Cluster['with'];

/** The settings with paths relative to `baseDir`. */
export function resolved({ servers, credentials, tls }: Nats, baseDir: string): Nats {
  const file = (path: string): string => resolve(baseDir, path);
  return {
    servers,
    credentials: credentials && file(credentials),
    tls: tls && {
      ca: tls.ca && file(tls.ca),
      cert: tls.cert && file(tls.cert),
      key: tls.key && file(tls.key),
    },
  };
}

/**
 * `tls://` at one server, or `tls`, asks for TLS at all. Files are read at each connection, so that they can be renewed.
 * Throws CONFIG_CREATE.
 */
export function natsAccess({ servers, credentials, tls }: Nats, client: Client, log: Log): NatsAccess {
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
  if (tls !== undefined) checkFiles(tls);
  return {
    hosts: addresses.map(({ host }) => host),
    options: {
      ...((tls !== undefined || addresses.some(({ isTls }) => isTls)) && {
        tls: tlsOptions(tls, addresses),
      }),
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
    reason: (error) => {
      const message = messageOf(error).replace(
        /^[0-9A-F]+:error:[0-9A-F]+:SSL routines:[^:]*:|:\.\.\/.*$/gs,
        '',
      );
      const ends = tls?.cert === undefined ? undefined : endOf(tls.cert);
      return ends !== undefined && ends < new Date()
        ? `${message} (the certificate ${tls?.cert ?? ''} expired at ${ends.toISOString()})`
        : message;
    },
  };
}

/** Options of Node's `tls.connect`, with those of the client for files. */
function tlsOptions(
  { ca, cert, key }: NonNullable<Nats['tls']> = {},
  servers: readonly { host: string }[],
): TlsOptions & ConnectionOptions {
  const ips = servers.map(({ host }) => host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')).filter(isIP);
  return {
    ...(ca !== undefined && { caFile: ca }),
    ...(cert !== undefined && { certFile: cert }),
    ...(key !== undefined && { keyFile: key }),
    // The client does not say to which address it connects: the certificate must be for one of ours.
    checkServerIdentity: (name, found) => {
      const [error, ...others] = [name, ...ips].map((each) => checkServerIdentity(each, found));
      return others.includes(undefined) ? undefined : error;
    },
  };
}

/** Throws CONFIG_CREATE. */
function checkFiles({ ca, cert, key }: NonNullable<Nats['tls']>): void {
  if ((cert === undefined) !== (key === undefined)) {
    throw new RxrayError(
      'CONFIG_CREATE',
      'a certificate for NATS needs its private key, and the key its certificate',
    );
  }
  const read = (file: string | undefined): Buffer | undefined => {
    try {
      return file === undefined ? undefined : readFileSync(file);
    } catch (cause) {
      throw new RxrayError('CONFIG_CREATE', `${file ?? ''} cannot be read: ${messageOf(cause)}`, { cause });
    }
  };
  const pem = { ca: read(ca), cert: read(cert), key: read(key) };
  try {
    createSecureContext(pem);
  } catch (cause) {
    const files = [ca, cert, key].filter((file) => file !== undefined).join(', ');
    const message = `these files cannot be used for TLS (${files}): ${messageOf(cause)}`;
    throw new RxrayError('CONFIG_CREATE', message, { cause });
  }
}

/** When a certificate expires; undefined if it cannot be read. */
function endOf(file: string): Date | undefined {
  try {
    return new Date(new X509Certificate(readFileSync(file)).validTo);
  } catch {
    return undefined;
  }
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
