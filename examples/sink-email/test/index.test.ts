// Run by `npm test`, against an SMTP server of its own.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, it } from 'node:test';
import { Unavailable } from 'rxray';
import { makeFrame, sinkContract, testServices } from 'rxray/testing';
import { SMTPServer } from 'smtp-server';
import sink from '../src/index.ts';

interface Mail {
  readonly messageId: string;
  readonly subject: string;
  readonly source: string;
}

let server: SMTPServer;
let url: string;
/** What the server has taken; `refusal`: what it answers instead. */
let mails: Mail[] = [];
let refusal: (Error & { responseCode: number }) | null = null;

before(async () => {
  server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onData(stream, _session, done) {
      void text(stream).then((source) => {
        const header = (name: string): string => new RegExp(`^${name}: (.*)\r$`, 'm').exec(source)?.[1] ?? '';
        if (refusal === null)
          mails.push({ messageId: header('Message-ID'), subject: header('Subject'), source });
        done(refusal);
      });
    },
  });
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  url = `smtp://127.0.0.1:${(server.server.address() as AddressInfo).port}`;
});
after(() => new Promise<void>((resolve) => server.close(resolve)));

const address = { from: 'rxray@example.org', to: ['ward@example.org'] };
const abnormal = { classes: { kind: 'judgement', abnormal: true, suspicion: 0.97 } };
const settings = (more: object = {}) =>
  sink.options.parse({ url, ...address, requireTls: false, ...more }) as never;

// What every sink must do. A receiver recognises repeated mails by their Message-ID.
sinkContract('email', () => {
  mails = [];
  return {
    plugin: sink,
    with: { url, ...address, requireTls: false },
    refused: [{}, { ...address, url: 'http://mail' }, { url, from: 'nobody', to: [] }],
    delivered: async () => {
      const ids = mails.map(({ source }) => /^[0-9a-f]{32}\r$/m.exec(source)?.[0].trim() ?? '');
      return [...new Set(ids)].map((id) => ({ id }));
    },
  };
});

void it('says which film, how suspicious and where to see it, and never a name', async () => {
  mails = [];
  const services = testServices();
  const opened = await sink.create(settings({ page: 'https://rxray.example.org' }), services);
  const frame = makeFrame({ name: 'Mustermann^Max.png', results: abnormal });
  await opened.write([{ ...frame, meta: { ...frame.meta, patientName: 'Mustermann' } }]);
  await opened.dispose?.();
  services.cleanup();
  const [{ subject, source }] = mails as [Mail];
  assert.equal(subject, `Suspicious film ${frame.id.slice(0, 8)}: suspicion 0.97 (classes)`);
  assert.match(source, new RegExp(`https://rxray.example.org/#films/${frame.id}`));
  assert.match(source, /Not a medical device/);
  assert.doesNotMatch(source, /Mustermann/);
});

void it('collects a digest, over a restart and an outage, and sends it once', async () => {
  mails = [];
  const services = testServices();
  const films = [1, 2, 3].map((n) => makeFrame({ name: `${n}.png`, seed: n, results: abnormal }));
  const first = await sink.create(settings({ digestMinutes: 60 }), services);
  await first.write(films.slice(0, 2));
  refusal = Object.assign(new Error('busy'), { responseCode: 451 });
  await first.dispose?.();
  assert.equal(mails.length, 0);
  refusal = null;
  const second = await sink.create(settings({ digestMinutes: 60 }), services);
  await second.write(films);
  await second.dispose?.();
  const third = await sink.create(settings({ digestMinutes: 60 }), services);
  await third.dispose?.();
  services.cleanup();
  assert.deepEqual(
    mails.map(({ subject }) => subject),
    ['3 films'],
  );
});

void it('calls a server that is away or busy an outage, and a refused mail an error', async () => {
  const services = testServices();
  const opened = await sink.create(settings(), services);
  const failing = async (code: number): Promise<unknown> => {
    refusal = Object.assign(new Error('no'), { responseCode: code });
    return opened.write([makeFrame()]).then(
      () => assert.fail('it was delivered'),
      (error: unknown) => error,
    );
  };
  assert.ok((await failing(451)) instanceof Unavailable);
  assert.ok(!((await failing(550)) instanceof Unavailable));
  refusal = null;
  await opened.dispose?.();
  const secure = await sink.create(settings({ requireTls: true }), services);
  await assert.rejects(secure.write([makeFrame()]), Unavailable);
  await secure.dispose?.();
  services.cleanup();
});
