/**
 * Opens many event streams to a running graph, most of which nobody reads, while films come:
 *
 *     npm run chaos:streams                       10,000 streams
 *     npm run chaos:streams -- --streams 500 --films 200
 *
 * Needs as many open files (`ulimit -n`). Ends with 1 when a film is missing, when the process does not answer, or when
 * it grows by more than 300 MiB.
 */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { parseArgs } from 'node:util';
import { film } from '../support/films.js';
import { GRAPH, Lab } from '../support/lab.js';

const { values: flags } = parseArgs({
  options: { streams: { type: 'string', default: '10000' }, films: { type: 'string', default: '2000' } },
});
const lab = await Lab.open(GRAPH, { 'inbox/first.png': await film(20, 20).png().toBuffer() });
const running = lab.start(['--page', '0']);
const { port, hostname } = new URL(await running.said(/the page is at (\S+)/));

async function residentMiB(): Promise<number> {
  const status = await readFile(`/proc/${running.pid ?? 0}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024;
}

/** How long an answer takes over the socket of the state folder. Rejects when none comes within ten seconds. */
async function answerMs(): Promise<number> {
  const started = performance.now();
  const socket = connect(lab.path('.rxray/control.sock'));
  socket.write('GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  await once(socket, 'data', { signal: AbortSignal.timeout(10_000) });
  socket.destroy();
  return performance.now() - started;
}

const sockets: Socket[] = [];
const counts = { taken: 0, busy: 0, closed: 0 };
for (let i = 0; i < Number(flags.streams); i++) {
  const socket = connect(Number(port), hostname).on('error', () => undefined);
  sockets.push(socket);
  socket.on('close', () => (counts.closed += 1));
  socket.write(`GET /api/events HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`);
  socket.once('data', (head: Buffer) => {
    counts[head.toString().startsWith('HTTP/1.1 200') ? 'taken' : 'busy'] += 1;
    // One in four is read.
    if (i % 4 !== 0) socket.pause();
  });
  if (i % 200 === 199) await new Promise(setImmediate);
}
const before = await residentMiB();
let [most, slowest] = [before, 0];
for (let i = 0; i < Number(flags.films); i++) {
  await lab.write(
    `inbox/${i}.png`,
    await film(20, 20 + (i % 9))
      .png()
      .toBuffer(),
  );
  if (i % 100 !== 99) continue;
  slowest = Math.max(slowest, await answerMs());
  most = Math.max(most, await residentMiB());
}
const wanted = Number(flags.films) + 1;
await running.until(async () => (await lab.delivered()).length === wanted);
const { taken, busy, closed } = counts;
for (const socket of sockets) socket.destroy();
await lab.close();
console.log(
  `${flags.streams} streams: ${taken} taken, ${busy} busy, ${closed} closed by the process; ` +
    `${wanted} films; ${before.toFixed(0)} → ${most.toFixed(0)} MiB; slowest answer ${slowest.toFixed(0)} ms`,
);
if (most - before > 300) process.exitCode = 1;
