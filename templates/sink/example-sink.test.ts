// Run by `rxray test example-sink.test.ts`.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { sinkContract } from 'rxray/testing';
import sink from './example-sink.ts';

// What every sink must do: resolve when the films are safe, and take a film twice without harm.
sinkContract('example-sink', async () => {
  const films = new Map<string, { id: string; file: string }>();
  const server = createServer((request, response) => {
    void json(request).then((film) => {
      films.set(request.url ?? '', film as { id: string; file: string });
      response.end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    plugin: sink,
    with: { url: `http://127.0.0.1:${port}/` },
    refused: [{}, { url: 'not a URL' }],
    delivered: () => Promise.resolve([...films.values()]),
    dispose() {
      server.closeAllConnections();
      server.close();
    },
  };
});
