import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { get, post, readAnswer } from '../../src/core/http.js';

describe('the time limit of a request', () => {
  let server: Server;
  let collecting: NodeJS.Timeout;
  before(async () => {
    server = createServer((request, response) => {
      if (request.url === '/body') response.writeHead(200).write('x');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    collecting = setInterval(collect, 20);
  });
  after(() => {
    clearInterval(collecting);
    server.closeAllConnections();
    server.close();
  });

  it('also ends it after garbage collections, with an answer that does not begin or does not end', async () => {
    const at = (path: string): URL =>
      new URL(path, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const attempt = { headers: new Headers(), timeoutMs: 400, teardown: new AbortController().signal };
    const reason = (request: Promise<unknown>): Promise<string> =>
      request.then(
        () => 'ended',
        (error: unknown) => String(error),
      );
    const late = /did not answer within 400 ms/;
    expect(await reason(post(at('/never'), { ...attempt, body: '{}' }))).to.match(late);
    expect(await reason(get(at('/body'), attempt, 1e6))).to.match(late);
    expect(await reason(post(at('/body'), { ...attempt, body: '{}' }).then(readAnswer))).to.equal('ended');
  }).timeout(10_000);
});
