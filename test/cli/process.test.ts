import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rename, symlink } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { EXIT } from '../../src/cli/exit.js';
import { film } from '../support/films.js';
import { GRAPH, Lab } from '../support/lab.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** What must not end the process: films come first. */
describe('the process', () => {
  let lab: Lab;
  beforeEach(async () => {
    lab = await Lab.open(GRAPH, {
      'inbox/good.png': await film().png().toBuffer(),
      'inbox/bad.png': 'no film',
    });
  });
  afterEach(() => lab.close());

  it('goes on when nobody reads its standard error', async () => {
    const args = [CLI, 'run', lab.path('pipeline.yaml'), '--once'];
    const child = spawn(process.execPath, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, NODE_OPTIONS: '' },
    });
    child.stderr.destroy();
    const [code] = (await once(child, 'exit')) as [number];
    expect(code).to.equal(1);
    expect(await lab.delivered()).to.deep.equal(['good.png']);
    expect([...(await lab.letters()).keys()]).to.deep.equal(['bad.png']);
  });

  it('takes a SIGHUP that comes while it starts', async function () {
    if (process.platform !== 'linux') this.skip();
    const running = lab.start();
    // Node itself takes some 50 ms until it runs anything; the graph is running much later.
    const catches = async (): Promise<boolean> => {
      const status = await readFile(`/proc/${String(running.pid)}/status`, 'utf8');
      return (BigInt(`0x${/^SigCgt:\s*(\w+)/m.exec(status)?.[1] ?? '0'}`) & 1n) === 1n;
    };
    while (!(await catches())) await sleep(5);
    running.signal('SIGHUP');
    await running.said(/(was reloaded)/);
    await running.until(async () => (await lab.delivered()).length === 1);
    running.interrupt();
    expect((await running.ended()).code).to.equal(1);
  });

  it('takes over the present target of the link to its pipeline', async () => {
    for (const [name, output] of [
      ['one', 'out.csv'],
      ['two', 'two.csv'],
    ] as const) {
      const graph = GRAPH.replace('./out.csv', lab.path(output)).replace('./inbox', lab.path('inbox'));
      await lab.write(`${name}/pipeline.yaml`, `state: ${lab.path('.rxray')}\n${graph}`);
      await symlink(name, lab.path(`${name}.link`));
    }
    await rename(lab.path('one.link'), lab.path('present'));
    await rename(lab.path('pipeline.yaml'), lab.path('first.yaml'));
    await symlink('present/pipeline.yaml', lab.path('pipeline.yaml'));
    const running = lab.start(['--watch-config']);
    await running.until(async () => (await lab.delivered()).length === 1);
    await rename(lab.path('two.link'), lab.path('present'));
    await running.said(/(was reloaded)/);
    await lab.write('inbox/more.png', await film(9, 9).png().toBuffer());
    await running.until(async () =>
      (await readFile(lab.path('two.csv'), 'utf8').catch(() => '')).includes('more.png'),
    );
  });

  it('runs without its page while the port is taken, and serves it afterwards', async function () {
    this.timeout(60_000);
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const running = lab.start(['--page', String(port)]);
    await running.until(async () => (await lab.delivered()).length === 1);
    await running.said(/(another program uses the port)/);
    taken.close();
    const page = await running.said(/the page is at (\S+)/);
    expect((await fetch(new URL('/healthz', page))).status).to.equal(200);
  });

  it('refuses an empty RXRAY_TOKEN', async () => {
    for (const RXRAY_TOKEN of ['', '  ']) {
      const { code, stderr } = await lab.start(['--page', '0'], { env: { RXRAY_TOKEN } }).ended();
      expect(code).to.equal(2);
      expect(stderr).to.contain('RXRAY_TOKEN is empty');
    }
  });

  it('survives idle connections, and more of them than it has handles for', async () => {
    const running = lab.start(['--page', '0'], { under: ['prlimit', '--nofile=400'] });
    const { port, hostname } = new URL(await running.said(/the page is at (\S+)/));
    const sockets: Socket[] = [];
    let closed = 0;
    for (let i = 0; i < 600; i++) {
      sockets.push(
        connect(Number(port), hostname)
          .on('error', () => undefined)
          .on('close', () => (closed += 1)),
      );
    }
    await running.until(() => closed >= 500);
    await lab.write('inbox/more.png', await film(9, 9).png().toBuffer());
    await running.until(async () => (await lab.delivered()).length === 2);
    for (const socket of sockets) socket.destroy();
  });

  it('ends with codes on which the shipped unit restarts it, except for a mistake of the user', async () => {
    const unit = await readFile(new URL('../../examples/service/rxray.service', import.meta.url), 'utf8');
    const valueOf = (key: string): string => new RegExp(`^${key}=(.*)$`, 'm').exec(unit)?.[1] ?? '';
    expect(valueOf('Restart')).to.equal('always');
    expect(valueOf('RestartPreventExitStatus').split(' ').map(Number)).to.deep.equal([EXIT.usage]);
    expect(valueOf('SuccessExitStatus').split(' ').map(Number)).to.deep.equal([EXIT.filmsFailed]);
    expect(valueOf('ExecReload')).to.contain('-HUP');
  });
});
