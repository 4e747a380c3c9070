import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { Observer } from '../../src/cli/observer.js';
import { browserCommand, openBrowser } from '../../src/cli/open-browser.js';
import type { Pipeline } from '../../src/core/config/pipeline.js';
import { testServices } from '../../src/testing.js';

const PAGE = 'http://127.0.0.1:8484/';

describe('the browser of npm start', () => {
  it('is the desktop’s own', () => {
    expect(browserCommand(PAGE, 'darwin', {})).to.deep.equal(['open', PAGE]);
    expect(browserCommand(PAGE, 'win32', {})).to.deep.equal([
      'rundll32',
      'url.dll,FileProtocolHandler',
      PAGE,
    ]);
    expect(browserCommand(PAGE, 'linux', { DISPLAY: ':0' })).to.deep.equal(['xdg-open', PAGE]);
    expect(browserCommand(PAGE, 'linux', { WAYLAND_DISPLAY: 'wayland-0' })).to.deep.equal(['xdg-open', PAGE]);
  });

  it('is not opened without a desktop, over SSH, in CI, or when BROWSER is none', () => {
    expect(browserCommand(PAGE, 'linux', {})).to.equal(undefined);
    for (const env of [{ SSH_CONNECTION: '10.0.0.1 1 10.0.0.2 22' }, { CI: 'true' }, { BROWSER: 'none' }])
      expect(browserCommand(PAGE, 'darwin', env), JSON.stringify(env)).to.equal(undefined);
  });

  it('may be missing', async () => {
    openBrowser(PAGE, { DISPLAY: ':0', PATH: '/nowhere' });
    // An error that nobody handles would end the process by now.
    await sleep(0);
  });
});

describe('the page of npm start', () => {
  it('is on another port where its own is in use, and says so', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const stateDir = await mkdtemp(join(tmpdir(), 'rxray-page-'));
    const said: string[] = [];
    const noEngine = (): Promise<never> => Promise.reject(new Error('no picture is asked for'));
    const observer = new Observer({ stateDir } as Pipeline, testServices().log, noEngine);
    try {
      const listen = { host: '127.0.0.1', port, orAnother: true };
      const page = (await observer.servePage(listen, (line) => said.push(line))) ?? expect.fail('no page');
      expect(said).to.deep.equal([`port ${String(port)} is in use: the page gets another one`]);
      expect(new URL(page).hostname).to.equal('127.0.0.1');
      expect(Number(new URL(page).port)).to.not.equal(port);
      expect((await fetch(new URL('/healthz', page))).status).to.equal(200);
    } finally {
      taken.close();
      await observer.close();
      await rm(stateDir, { recursive: true });
    }
  });
});
