import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { nkeys } from '@nats-io/transport-node';
import { expect } from 'chai';
import { Subject, filter, firstValueFrom, interval, startWith } from 'rxjs';
import { openBus, type Bus } from '../../src/cluster/nats.js';
import type { Cluster } from '../../src/core/config/pipeline.js';
import { Authority } from '../support/authority.js';
import { selfSigned } from '../support/tls-front.js';
import { NatsServers, natsVersion } from './nats-servers.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const SECRET = 's3cret/p@ss:word';
const BEACON = { journal: 'j', epoch: 1, head: 'h', name: 'n', graph: 'g', leaseMs: 500 };

describe('the connection to NATS servers', function () {
  this.timeout(120_000);
  let folder: string;
  let closing: (() => unknown)[] = [];
  let said: string[];
  let said$: Subject<string>;

  beforeEach(async function () {
    // .ci/run installs the server.
    if (natsVersion() === undefined) this.skip();
    folder = await mkdtemp(join(tmpdir(), 'rxray-nats-'));
    closing = [() => rm(folder, { recursive: true })];
    said = [];
    said$ = new Subject();
  });
  afterEach(async () => {
    for (const close of closing.reverse()) await close();
    closing = [];
    expect(said.join()).not.to.contain(SECRET);
  });

  async function startServer(config: string): Promise<NatsServers> {
    const file = join(folder, `${String(closing.length)}.conf`);
    await writeFile(file, config);
    const servers = await NatsServers.start(1, '127.0.0.1', ['--config', file]);
    closing.push(() => servers.close());
    return servers;
  }

  /** A server with this configuration; its address without a scheme. */
  async function serve(config: string): Promise<string> {
    return ((await startServer(config)).urls[0] ?? '').replace('nats://', '');
  }

  async function open(server: string, credentials = '', signal?: AbortSignal, tls?: Tls): Promise<Bus> {
    const say = (_: unknown, message: string): void => {
      said.push(message);
      said$.next(message);
    };
    const log = { debug: say, info: say, warn: say, error: say };
    const bus = await openBus(
      { servers: [server], credentials, tls },
      { name: 'test', log, ...(signal !== undefined && { signal }) },
    );
    closing.push(() => bus.close());
    return bus;
  }

  const hears = (pattern: RegExp): Promise<string> =>
    firstValueFrom(said$.pipe(filter((message) => pattern.test(message))));

  /** The message with which it is refused. */
  async function refused(server: string, credentials?: string, tls?: Tls): Promise<string> {
    const [outcome] = await Promise.allSettled([open(server, credentials, undefined, tls)]);
    expect(outcome).to.have.nested.property('reason.code', 'CONFIG_CREATE');
    const { message } = (outcome as PromiseRejectedResult).reason as Error;
    said.push(message);
    return message;
  }

  /** Until its signal: the last reason why it waits. */
  async function waits(server: string, tls?: Tls): Promise<string> {
    const abort = new AbortController();
    const heard = hears(/waiting for the NATS servers/);
    const [outcome] = await Promise.all([
      Promise.allSettled([open(server, '', abort.signal, tls)]),
      heard.then(() => {
        abort.abort();
      }),
    ]);
    expect(outcome[0].status).to.equal('rejected');
    return heard;
  }

  /** A message arrives. NATS promises it for none: one that is sent while a connection ends is lost. */
  async function works(bus: Bus): Promise<void> {
    const arrived = new Promise((resolve) => bus.subscribe('rxray4.j.beacon', resolve));
    const sending = interval(100)
      .pipe(startWith(0))
      .subscribe(() => {
        bus.publish('rxray4.j.beacon', BEACON);
      });
    expect(await arrived).to.deep.equal(BEACON);
    sending.unsubscribe();
  }

  it('takes user and password, or a token, from the address, and never shows them', async () => {
    const password = encodeURIComponent(SECRET);
    const host = await serve(`
authorization { users: [
  { user: "head", password: ${JSON.stringify(SECRET)} }
  { user: "guest", password: "guest", permissions: { publish: "nothing" } }
] }`);
    await works(await open(`nats://head:${password}@${host}`));
    expect(await refused(`nats://head:${password}x@${host}`)).to.equal(
      'the NATS servers refuse the user head, or the password: Authorization Violation',
    );
    expect(await refused(`nats://${host}`)).to.contain('refuse a connection without credentials');
    expect(await refused(`http://${password}@${host}`)).to.contain(
      'expected `nats://` or `tls://` addresses',
    );
    // Allowed to connect, and no more.
    const guest = await open(`nats://guest:guest@${host}`);
    const heard = hears(/error of the NATS servers/);
    guest.publish('rxray4.j.beacon', BEACON);
    expect(await heard).to.match(/Permissions Violation for Publish to "rxray4\.j\.beacon"/i);

    const other = await serve(`authorization { token: ${JSON.stringify(SECRET)} }`);
    await works(await open(`nats://${password}@${other}`));
    expect(await refused(`nats://${password}x@${other}`)).to.contain('refuse the token');
  });

  it('is encrypted with `tls://`, or not made', async function () {
    const identity = selfSigned();
    // Without openssl.
    if (identity === undefined) return this.skip();
    const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
    await writeFile(cert, identity.cert);
    await writeFile(key, identity.key);
    const host = await serve(`
tls { cert_file: ${JSON.stringify(cert)}, key_file: ${JSON.stringify(key)} }
authorization { user: "worker", password: ${JSON.stringify(SECRET)} }`);
    const url = `tls://worker:${encodeURIComponent(SECRET)}@${host}`;
    // This process does not trust the certificate.
    expect(await waits(url)).to.match(/self.signed certificate/);
    expect(await waits(`tls://${await serve('')}`)).to.contain("server does not support 'tls'");

    const worker = spawn(process.execPath, [CLI, 'work'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '', RXRAY_LOG: 'debug', NODE_EXTRA_CA_CERTS: cert, NATS_URL: url },
    });
    closing.push(() => worker.kill('SIGKILL'));
    const ended = once(worker, 'exit');
    for await (const line of createInterface(worker.stderr)) {
      said.push(line);
      if (line.includes('waiting for a head')) worker.kill('SIGTERM');
    }
    expect(said.at(-1)).to.contain('waiting for a head');
    expect(await ended).to.deep.equal([0, null]);
  });

  it('proves itself by a certificate, and says why it is not connected again', async function () {
    const [authority, other] = ['ours', 'theirs'].map((name) => Authority.create(folder, name));
    // Without openssl.
    if (authority === undefined || other === undefined) return this.skip();
    const identity = authority.issue('server');
    const quoted = [identity.cert, identity.key, authority.cert].map((file) => JSON.stringify(file));
    const servers = await startServer(
      `tls { cert_file: ${String(quoted[0])}, key_file: ${String(quoted[1])}, ca_file: ${String(quoted[2])}, verify: true }`,
    );
    const [url = ''] = servers.urls;
    const ca = authority.cert;
    const client = authority.issue('client');
    const tls = { ca, ...client };

    // The server may break off before its reason has arrived.
    const unproven = /waiting for the NATS servers: .*(alert|certificate required|ECONNRESET|EPIPE)/;
    expect(await waits(url, { ca })).to.match(unproven);
    expect(await waits(url, { ca, ...other.issue('stranger') })).to.match(unproven);
    const late = authority.issue('late', -1);
    expect(await waits(url, { ca, ...late })).to.match(/the certificate .*late\.pem expired at \d{4}-/);
    expect(await refused(url, '', { ca, cert: client.cert })).to.contain('needs its private key');
    expect(await refused(url, '', { ...tls, key: identity.key })).to.match(
      /cannot be used for TLS .*mismatch/,
    );
    expect(await refused(url, '', { ca: join(folder, 'none.pem') })).to.match(/none\.pem cannot be read/);

    const bus = await open(url, '', undefined, tls);
    await works(bus);
    const restart = async (): Promise<void> => {
      await servers.kill(0);
      await servers.restart(0);
    };
    for (const [replace, reason] of [
      [() => other.issue('server'), /waiting for the NATS servers: .*(self.signed|verify|issuer)/],
      [() => authority.issue('server', -1), /waiting for the NATS servers: certificate has expired/],
      [() => other.issue('client'), unproven],
    ] as const) {
      said = [];
      const [lost, waiting] = [hears(/is lost/), hears(reason)];
      replace();
      await restart();
      await Promise.all([lost, waiting]);
      const again = hears(/connected to NATS again/);
      authority.issue('server');
      authority.issue('client');
      await restart();
      await again;
      await works(bus);
      const reasons = said.filter((message) => reason.test(message));
      expect(reasons).to.deep.equal([...new Set(reasons)]);
      expect(said.filter((message) => message.includes('is lost'))).to.have.length(1);
    }
  });

  it('takes a credentials file, says what is wrong with it, and goes on when it is renewed', async () => {
    const [operator, account, stranger] = [
      nkeys.createOperator(),
      nkeys.createAccount(),
      nkeys.createAccount(),
    ];
    const accountId = account.getPublicKey();
    const limits = { subs: -1, data: -1, payload: -1, imports: -1, exports: -1, conn: -1, leaf: -1 };
    const host = await serve(`
operator: ${jwt(operator, operator.getPublicKey(), { type: 'operator' })}
resolver: MEMORY
resolver_preload: { ${accountId}: ${jwt(operator, accountId, { type: 'account', limits })} }`);
    const url = `nats://${host}`;
    const file = join(folder, 'user.creds');
    const write = (by: Pair, expiresAt?: number): Promise<void> =>
      writeFile(file, credentialsOf(by, expiresAt));

    expect(await refused(url, file)).to.match(/the credentials .*user\.creds cannot be read: .*no such file/);
    await writeFile(file, 'secret');
    expect(await refused(url, file)).to.match(/user\.creds is not a credentials file of NATS/);
    await write(stranger);
    expect(await refused(url, file)).to.match(
      /refuse the credentials .*user\.creds: '?Authorization Violation/i,
    );
    await write(account, 1_700_000_000);
    expect(await refused(url, file)).to.match(/user\.creds: they expired at 2023-11-14T22:13:20\.000Z/);
    await write(account);
    await works(await open(url, file));

    // They expire while it is connected: it tries until they are renewed.
    await write(account, Math.ceil(Date.now() / 1000) + 3);
    const expired = hears(/user\.creds: they expired at/);
    const bus = await open(url, file);
    await works(bus);
    await expired;
    const again = hears(/connected to NATS again/);
    await write(account);
    await again;
    await works(bus);
    expect(said.filter((message) => message.includes('they expired')).length).to.be.at.most(3);
  });
});

type Tls = Cluster['with']['tls'];
type Pair = ReturnType<typeof nkeys.createUser>;

/** A token as `nsc` signs it. Source: docs.nats.io, "JWT". */
function jwt(by: Pair, subject: string, nats: object, expiresAt?: number): string {
  const claims = {
    ...{
      jti: subject,
      iat: Math.floor(Date.now() / 1000),
      iss: by.getPublicKey(),
      name: 'test',
      sub: subject,
    },
    ...(expiresAt !== undefined && { exp: expiresAt }),
    nats: { version: 2, ...nats },
  };
  const parts = [{ typ: 'JWT', alg: 'ed25519-nkey' }, claims].map((part) =>
    Buffer.from(JSON.stringify(part)).toString('base64url'),
  );
  const signature = Buffer.from(by.sign(Buffer.from(parts.join('.')))).toString('base64url');
  return [...parts, signature].join('.');
}

/** A credentials file of a new user. */
function credentialsOf(account: Pair, expiresAt?: number): string {
  const user = nkeys.createUser();
  const token = jwt(
    account,
    user.getPublicKey(),
    { type: 'user', subs: -1, data: -1, payload: -1 },
    expiresAt,
  );
  const seed = Buffer.from(user.getSeed()).toString();
  return `-----BEGIN NATS USER JWT-----
${token}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
${seed}
------END USER NKEY SEED------
`;
}
