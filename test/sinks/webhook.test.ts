import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { Webhook } from 'standardwebhooks';
import { RxrayError, Unavailable } from '../../src/core/errors.js';
import type { Frame } from '../../src/core/frame.js';
import type { SinkInstance } from '../../src/core/plugin.js';
import webhook from '../../src/sinks/webhook.js';
import { verdictOf } from '../../src/core/verdict.js';
import { makeFrame, testServices, type TestServices } from '../../src/testing.js';
import { Proxy } from '../support/proxy.js';
import { selfSigned } from '../support/tls-front.js';
import { Receiver } from './receiver.js';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

describe('the webhook sink', () => {
  let receiver: Receiver;
  let services: TestServices;

  beforeEach(async () => {
    receiver = await Receiver.listen();
    services = testServices({ id: 'hook' });
  });
  afterEach(async () => {
    services.cleanup();
    await receiver.close();
  });

  async function open(settings: object = {}): Promise<SinkInstance> {
    return webhook.create(webhook.options.parse({ url: receiver.url, ...settings }), services);
  }
  async function failure(attempt: Promise<unknown>): Promise<RxrayError> {
    const error: unknown = await attempt.then(
      () => expect.fail('expected a rejection'),
      (thrown: unknown) => thrown,
    );
    expect(error).to.be.instanceOf(RxrayError);
    return error as RxrayError;
  }
  async function outage(attempt: Promise<unknown>): Promise<Unavailable> {
    const error: unknown = await attempt.then(
      () => expect.fail('expected a rejection'),
      (thrown: unknown) => thrown,
    );
    expect(error).to.be.instanceOf(Unavailable);
    return error as Unavailable;
  }
  const bodies = () => receiver.requests.map(({ body }) => JSON.parse(body) as Record<string, unknown>);
  const residual = { width: 1, height: 1, channels: 1, data: new Uint8Array(1) };
  const film = (): Frame => ({
    ...makeFrame({
      name: 'Doe, John.png',
      meta: { modality: 'DX' },
      results: { anomaly: { kind: 'anomaly', anomalyScore: 0.2, rawSum: 3, percentile: 41, residual } },
    }),
    completedAt: '2026-01-01T08:00:01.000Z',
  });

  it('POSTs the results of the stages, without pixels and without the file name', async () => {
    const sink = await open();
    await sink.write([film()]);
    expect(bodies()).to.deep.equal([
      {
        id: film().id,
        receivedAt: '2026-01-01T08:00:00.000Z',
        completedAt: '2026-01-01T08:00:01.000Z',
        meta: { modality: 'DX' },
        verdict: verdictOf({}),
        results: { anomaly: { kind: 'anomaly', anomalyScore: 0.2, rawSum: 3, percentile: 41 } },
      },
    ]);
    expect(receiver.requests[0]!.headers['content-type']).to.equal('application/json');
    expect(receiver.requests[0]!.headers['webhook-id']).to.equal(film().id);
    expect(receiver.requests[0]!.headers).not.to.have.property('webhook-signature');
  });

  it('sends the file name by option', async () => {
    await (await open({ includeFile: true })).write([film()]);
    expect(bodies()[0]).to.include({ file: 'Doe, John.png' });
  });

  it('sends chosen fields only', async () => {
    const fields = { percentile: 'results.anomaly.percentile', maps: 'results.anomaly' };
    await (await open({ fields })).write([film()]);
    expect(bodies()[0]).to.deep.equal({
      id: film().id,
      percentile: 41,
      maps: { kind: 'anomaly', anomalyScore: 0.2, rawSum: 3, percentile: 41 },
    });
  });

  it('sends headers of the user', async () => {
    await (await open({ headers: { Authorization: 'Bearer t0ken' } })).write([film()]);
    expect(receiver.requests[0]!.headers.authorization).to.equal('Bearer t0ken');
  });

  it('signs every attempt so that a receiver can verify it, with the same id and body', async () => {
    receiver.answer(503);
    const sink = await open({ secret: SECRET });
    await outage(sink.write([film()]));
    await sink.write([film()]);
    expect(receiver.requests).to.have.lengthOf(2);
    for (const { body, headers } of receiver.requests) {
      new Webhook(SECRET).verify(body, headers as Record<string, string>);
      expect(headers['webhook-id']).to.equal(film().id);
    }
    expect(receiver.requests[0]?.body).to.equal(receiver.requests[1]?.body);
  });

  it('gives a film that is processed again on request another id, the same for every attempt', async () => {
    const sink = await open();
    for (let attempt = 0; attempt < 2; attempt++)
      await sink.write([{ ...film(), repeat: 1_700_000_000_000 }]);
    for (const { headers } of receiver.requests) {
      expect(headers['webhook-id']).to.equal(`${film().id}.1700000000000`);
    }
  });

  it('has the host record a film before the first attempt, so that no repetition differs', () => {
    expect(webhook).to.include({ outbox: true });
  });

  it('repeats nothing of the reason phrase of the receiver, which may contain the secret', async () => {
    const secret = 'sup3rs3cret';
    for (const status of [401, 503]) {
      receiver.answers.push((response) => response.writeHead(status, `bad Bearer ${secret}`).end());
      const sink = await open({ headers: { authorization: `Bearer ${secret}` } });
      const [outcome] = await Promise.allSettled([sink.write([film()])]);
      const { message } = (outcome as PromiseRejectedResult).reason as Error;
      expect(message)
        .to.contain(`it answered ${String(status)} `)
        .and.not.contain(secret);
    }
  });

  for (const status of [408, 429, 500, 502, 503]) {
    it(`leaves the retry to the host after ${status}`, async () => {
      receiver.answer(status);
      const error = await outage((await open()).write([film()]));
      expect(error.message).to.contain(`it answered ${status}`);
      expect(receiver.requests).to.have.lengthOf(1);
    });
  }

  for (const status of [400, 401, 404, 410, 413, 422]) {
    it(`does not try again after ${status}`, async () => {
      receiver.answer(status);
      const error = await failure((await open()).write([film()]));
      expect(error.code).to.equal('FRAME_SINK');
      expect(error.message).to.contain(String(status));
      expect(receiver.requests).to.have.lengthOf(1);
    });
  }

  it('does not follow a redirect', async () => {
    const other = await Receiver.listen();
    receiver.answer(307, { location: other.url });
    const error = await failure((await open()).write([film()]));
    expect(error.message).to.contain('Redirects are refused');
    expect(other.requests).to.be.empty;
    await other.close();
  });

  it('passes on what Retry-After asks for, in seconds or as a date, up to an hour', async () => {
    const asked = async (retryAfter: string): Promise<number> => {
      receiver.answer(429, { 'retry-after': retryAfter });
      return (await outage((await open()).write([film()]))).retryAfterMs;
    };
    expect(await asked('7')).to.equal(7000);
    expect(await asked(new Date(Date.now() + 9000).toUTCString())).to.be.within(1000, 9000);
    expect(await asked('86400')).to.equal(3_600_000);
    for (const nonsense of ['soon', '-5', new Date(0).toUTCString()]) {
      expect(await asked(nonsense), nonsense).to.equal(0);
    }
  });

  it('reports an answer that does not come in time', async () => {
    receiver.answers.push(() => undefined);
    const error = await outage((await open({ timeoutMs: 100 })).write([film()]));
    expect(error.message).to.contain('did not answer within 100 ms');
  });

  it('confirms on a 2xx whose body never ends, and delivers the film once', async () => {
    receiver.answers.push((response) => response.writeHead(200).write('slow'));
    await (await open({ timeoutMs: 100 })).write([film()]);
    expect(receiver.requests).to.have.lengthOf(1);
  });

  it('does not read an endless body to its end', async () => {
    receiver.answers.push((response) => {
      response.writeHead(200);
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65536)));
      };
      response.on('drain', more);
      more();
    });
    const started = Date.now();
    await (await open({ timeoutMs: 10_000 })).write([film()]);
    expect(Date.now() - started).to.be.below(5000);
  });

  it('reports a broken connection, and a refused one', async () => {
    receiver.answers.push((_, request) => request.socket.destroy());
    const sink = await open();
    expect((await outage(sink.write([film()]))).message).to.match(/could not be reached/);
    await receiver.close();
    expect((await outage(sink.write([film()]))).message).to.contain('ECONNREFUSED');
    await receiver.reopen();
  });

  it('ends a request when the graph is closed', async () => {
    receiver.answers.push(() => {
      services.abort();
    });
    const sink = await open();
    const [outcome] = await Promise.allSettled([sink.write([film()])]);
    expect(outcome.status).to.equal('rejected');
    expect((outcome as PromiseRejectedResult).reason).not.to.be.instanceOf(Unavailable);
    await sink.dispose?.();
  });

  it('verifies the certificate of the receiver', async function () {
    const signed = selfSigned();
    // a bare machine without openssl
    if (signed === undefined) return this.skip();
    const server = createServer(signed, (_, response) => response.end());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const error = await outage((await open({ url: `https://127.0.0.1:${port}/` })).write([film()]));
    expect(error.message).to.match(/SELF_SIGNED|UNABLE_TO_VERIFY/);
    server.closeAllConnections();
    server.close();
  });

  describe('through the proxy of the environment', () => {
    const environment = { ...process.env };
    let proxy: Proxy;
    beforeEach(async () => {
      proxy = await Proxy.listen(Number(new URL(receiver.url).port));
      process.env['HTTP_PROXY'] = proxy.url.replace('//', '//u:pa55@');
      process.env['HTTPS_PROXY'] = proxy.url;
    });
    afterEach(async () => {
      process.env = { ...environment };
      await proxy.close();
    });
    const credentials = `Basic ${Buffer.from('u:pa55').toString('base64')}`;

    it('sends to hosts elsewhere, without a tunnel where nothing is encrypted', async () => {
      const sink = await open({ url: 'http://one.example.org/hook' });
      await sink.write([film()]);
      expect(proxy.asked).to.deep.equal([`POST http://one.example.org/hook ${credentials}`]);
      expect(bodies()[0]).to.include({ id: film().id });
      expect(receiver.requests[0]?.headers).to.include({ host: 'one.example.org' });
      expect(services.logged.join('\n')).to.contain(new URL(proxy.url).host).and.not.contain('pa55');
    });

    it('does not use it for this machine, and for the hosts of NO_PROXY', async () => {
      process.env['NO_PROXY'] = 'ris.example.org';
      await (await open()).write([film()]);
      await (await open({ url: receiver.url.replace('127.0.0.1', 'localhost') })).write([film()]);
      expect(receiver.requests).to.have.lengthOf(2);
      const direct = await open({ url: 'http://ris.example.org:1/', timeoutMs: 5000 });
      await outage(direct.write([film()]));
      expect(proxy.asked).to.deep.equal([]);
    });

    it('counts a proxy that is not reachable, or refuses, as an outage of the receiver', async () => {
      const sink = await open({ url: 'http://two.example.org/' });
      const tunnelled = await open({ url: 'https://two.example.org/' });
      for (const [status, plain] of [
        [407, 'the proxy answered 407'],
        [502, 'it answered 502'],
      ] as const) {
        proxy.refuses = status;
        expect((await outage(sink.write([film()]))).message).to.contain(plain);
        expect((await outage(tunnelled.write([film()]))).message).to.contain(`the proxy answered ${status}`);
      }
      process.env['HTTP_PROXY'] = 'http://127.0.0.1:1';
      const away = await open({ url: 'http://three.example.org/' });
      expect((await outage(away.write([film()]))).message).to.contain('could not be reached');
    });

    it('verifies the certificate of the receiver at the other end of a tunnel', async function () {
      const signed = selfSigned();
      if (signed === undefined) return this.skip();
      const server = createServer(signed, (_, response) => response.end());
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const own = await Proxy.listen((server.address() as AddressInfo).port);
      process.env['HTTPS_PROXY'] = own.url;
      const sink = await open({ url: 'https://four.example.org/hook' });
      expect((await outage(sink.write([film()]))).message).to.match(/SELF_SIGNED|UNABLE_TO_VERIFY/);
      expect(own.asked).to.deep.equal(['CONNECT four.example.org:443']);
      await own.close();
      server.close();
    });

    it('is refused at the start if the variable does not name a proxy', async () => {
      process.env['HTTP_PROXY'] = 'socks5://u:pa55@127.0.0.1:1080';
      const error = await failure(open({ url: 'http://five.example.org/' }));
      expect(error).to.include({ code: 'CONFIG_CREATE' });
      expect(error.message).to.contain('HTTP_PROXY').and.not.contain('pa55');
    });
  });

  it('refuses settings that cannot work, when it is created', async () => {
    for (const settings of [
      { secret: 'no base64!' },
      { headers: { 'bad name': 'x' } },
      { headers: { authorization: 'Bearer t0ken\n' + '\u0000' } },
      { url: 'https://user:pa55@example.org/' },
    ]) {
      const error = await failure(open(settings));
      expect(error.code).to.equal('CONFIG_CREATE');
    }
  });

  it('never shows a secret in an error or a log', async () => {
    const secrets = ['pa55', 't0ken', 's3cret', 'MfKQ9r8', 'Doe'];
    const told: string[] = [];
    const tell = async (settings: object): Promise<void> => {
      try {
        await (await open({ secret: SECRET, ...settings })).write([film()]);
      } catch (error) {
        const { message, stack, cause } = error as Error;
        told.push(message, stack ?? '', String(cause), JSON.stringify(error));
      }
    };
    receiver.answer(500).answer(404).answer(302, { location: 'https://other.example/s3cret' });
    await tell({ headers: { authorization: 'Bearer t0ken' } });
    await tell({});
    await tell({});
    await tell({ url: 'https://user:pa55@127.0.0.1/' });
    await tell({ secret: 'MfKQ9r8!' });
    await tell({ headers: { authorization: 't0ken\u0000' } });
    await tell({ url: 'http://127.0.0.1:1/s3cret' });
    expect(told).to.have.lengthOf(28);
    for (const secret of secrets) {
      expect(told.join('\n')).not.to.contain(secret);
      expect(services.logged.join('\n')).not.to.contain(secret);
    }
  });
});
