import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { Webhook } from 'standardwebhooks';
import { RxrayError } from '../../src/core/errors.js';
import type { Frame } from '../../src/core/frame.js';
import type { SinkInstance } from '../../src/core/plugin.js';
import webhook from '../../src/sinks/webhook.js';
import { makeFrame, testServices, type TestServices } from '../../src/testing.js';
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
    return webhook.create(webhook.options.parse({ url: receiver.url, backoffMs: 1, ...settings }), services);
  }
  async function failure(attempt: Promise<unknown>): Promise<RxrayError> {
    const error: unknown = await attempt.then(
      () => expect.fail('expected a rejection'),
      (thrown: unknown) => thrown,
    );
    expect(error).to.be.instanceOf(RxrayError);
    return error as RxrayError;
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

  it('POSTs what the stages found, without pixels and without the file name', async () => {
    const sink = await open();
    await sink.write([film()]);
    expect(bodies()).to.deep.equal([
      {
        id: film().id,
        receivedAt: '2026-01-01T08:00:00.000Z',
        completedAt: '2026-01-01T08:00:01.000Z',
        meta: { modality: 'DX' },
        results: { anomaly: { kind: 'anomaly', anomalyScore: 0.2, rawSum: 3, percentile: 41 } },
      },
    ]);
    expect(receiver.requests[0]!.headers['content-type']).to.equal('application/json');
    expect(receiver.requests[0]!.headers['webhook-id']).to.equal(film().id);
    expect(receiver.requests[0]!.headers).not.to.have.property('webhook-signature');
  });

  it('sends the file name when it is asked to', async () => {
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

  it('signs every attempt so that a receiver can verify it, with the same id', async () => {
    receiver.answer(503);
    await (await open({ secret: SECRET })).write([film()]);
    expect(receiver.requests).to.have.lengthOf(2);
    for (const { body, headers } of receiver.requests) {
      new Webhook(SECRET).verify(body, headers as Record<string, string>);
      expect(headers['webhook-id']).to.equal(film().id);
    }
  });

  for (const status of [408, 429, 500, 502, 503]) {
    it(`tries again after ${status}`, async () => {
      receiver.answer(status).answer(status);
      await (await open()).write([film()]);
      expect(receiver.requests).to.have.lengthOf(3);
    });
  }

  it('gives up when it has been down for too long, and says what happened', async () => {
    receiver.answer(503);
    const error = await failure((await open({ giveUpAfterMs: 0 })).write([film()]));
    expect(error.code).to.equal('FRAME_SINK');
    expect(error.component).to.equal('hook');
    expect(error.message).to.match(/it answered 503 Service Unavailable, and has taken none for 0 s$/);
    expect(receiver.requests).to.have.lengthOf(1);
  });

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

  describe('obeys Retry-After', () => {
    it('in seconds', async () => {
      receiver.answer(429, { 'retry-after': '1' });
      await (await open()).write([film()]);
      const [first, second] = receiver.requests;
      expect(second!.at - first!.at).to.be.at.least(990);
    });

    it('as a date', async () => {
      const date = new Date(Date.now() + 2000).toUTCString();
      receiver.answer(503, { 'retry-after': date });
      await (await open()).write([film()]);
      expect(receiver.requests[1]!.at).to.be.at.least(Date.parse(date) - 10);
    });

    it('until the graph is torn down', async () => {
      receiver.answers.push((response) => {
        response.writeHead(429, { 'retry-after': '3600' }).end(() => services.abort());
      });
      const sink = await open();
      const outcome = await Promise.allSettled([sink.write([film()])]);
      expect(outcome[0].status).to.equal('rejected');
      await sink.dispose?.();
    });
  });

  it('tries again when there is no answer in time', async () => {
    receiver.answers.push(() => undefined);
    await (await open({ timeoutMs: 100 })).write([film()]);
    expect(receiver.requests).to.have.lengthOf(2);
  });

  it('says so when there is never an answer in time', async () => {
    receiver.answers.push(() => undefined);
    const error = await failure((await open({ timeoutMs: 50, giveUpAfterMs: 0 })).write([film()]));
    expect(error.message).to.contain('did not answer within 50 ms');
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

  it('tries again when the connection breaks', async () => {
    receiver.answers.push((_, request) => request.socket.destroy());
    await (await open()).write([film()]);
    expect(receiver.requests).to.have.lengthOf(2);
  });

  describe('in an outage', () => {
    const numbered = (i: number): Frame => makeFrame({ name: `${i}.png` });
    const logged = (text: string) => services.logged.filter((line) => line.includes(text));
    const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
      while (!(await condition())) await sleep(5);
    };

    it('holds the films back, and loses none of them', async () => {
      const sink = await open();
      await sink.write([numbered(0)]);
      await receiver.close();
      const films = Array.from({ length: 8 }, (_, i) => numbered(i + 1));
      const written = Promise.all(films.map((each) => sink.write([each])));
      await until(() => logged('ECONNREFUSED').length > 0);
      await receiver.reopen();
      await written;
      expect(receiver.requests.map(({ headers }) => headers['webhook-id'])).to.deep.equal(
        [numbered(0), ...films].map(({ id }) => id),
      );
      expect(logged('is down')).to.have.lengthOf(1);
      expect(logged('is up again')).to.have.lengthOf(1);
    });

    it('ends when nobody ever answers: the bound holds for all films together', async () => {
      await receiver.close();
      const sink = await open({ giveUpAfterMs: 300 });
      const started = Date.now();
      const outcomes = await Promise.allSettled(
        Array.from({ length: 50 }, (_, i) => sink.write([numbered(i)])),
      );
      expect(Date.now() - started).to.be.below(5000);
      for (const outcome of outcomes) {
        expect(outcome.status).to.equal('rejected');
        expect((outcome as PromiseRejectedResult).reason).to.include({ code: 'FRAME_SINK' });
      }
      await receiver.reopen();
      await until(async () => (await Promise.allSettled([sink.write([film()])]))[0].status === 'fulfilled');
    });

    it('counts a new outage from its own beginning', async () => {
      const sink = await open({ giveUpAfterMs: 500 });
      receiver.answer(503).answer(503);
      await sink.write([film()]);
      receiver.answer(503).answer(503);
      await sink.write([film()]);
      expect(receiver.requests).to.have.lengthOf(6);
    });

    it('is not prolonged by an answer that refuses the film', async () => {
      const sink = await open();
      receiver.answer(503).answer(422);
      expect((await failure(sink.write([film()]))).message).to.contain('422');
      await sink.write([film()]);
    });

    it('lets go of a waiting film when the graph is torn down', async () => {
      await receiver.close();
      const sink = await open({ backoffMs: 30_000 });
      const written = Promise.allSettled([sink.write([film()])]);
      await until(() => logged('is down').length > 0);
      services.abort();
      expect((await written)[0].status).to.equal('rejected');
      await sink.dispose?.();
      await receiver.reopen();
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

  it('never tells a secret in an error or a log', async () => {
    const secrets = ['pa55', 't0ken', 's3cret', 'MfKQ9r8', 'Doe'];
    const told: string[] = [];
    const tell = async (settings: object): Promise<void> => {
      try {
        await (await open({ giveUpAfterMs: 0, secret: SECRET, ...settings })).write([film()]);
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
