import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Command } from 'commander';
import { addRunOptions } from '../../src/cli/run.js';
import { controlAddress, prepareAddress } from '../../src/control/address.js';
import { isLoopback } from '../../src/control/guard.js';

describe('the address of the control socket', () => {
  it('is in the state folder, or in a folder of the user if that path is too long', async () => {
    const short = join(tmpdir(), '.rxray');
    expect(controlAddress(short)).to.equal(join(short, 'control.sock'));
    const root = await mkdtemp(join(tmpdir(), 'rxray-address-'));
    const long = join(root, 'x'.repeat(100));
    await mkdir(long);
    const address = controlAddress(long);
    expect(address.length).to.be.lessThan(104);
    expect(address).to.equal(controlAddress(long)).and.not.equal(controlAddress(root));
    prepareAddress(address, long);
    await rm(root, { recursive: true });
  });
});

describe('--page', () => {
  it('takes a port, an address with a port, or nothing', () => {
    const pageAt = (...value: string[]): unknown =>
      addRunOptions(new Command())
        .exitOverride()
        .configureOutput({ writeErr: () => undefined })
        .parse(['--page', ...value], { from: 'user' })
        .opts()['page'];
    expect(pageAt()).to.deep.equal({ host: '127.0.0.1', port: 8484 });
    expect(pageAt('90')).to.deep.equal({ host: '127.0.0.1', port: 90 });
    expect(pageAt('ward.example:90')).to.deep.equal({ host: 'ward.example', port: 90 });
    expect(pageAt('[::1]:90')).to.deep.equal({ host: '::1', port: 90 });
    for (const wrong of ['', 'x', '80a', '-1', '1.5', '65536', '70000', ':80', '::1:80'])
      expect(() => pageAt(wrong), wrong).to.throw(/port/);
  });

  it('needs no token if only this machine can connect', () => {
    expect(['127.0.0.1', '127.8.8.8', '::1', 'localhost'].map(isLoopback)).to.deep.equal([
      true,
      true,
      true,
      true,
    ]);
    expect(['0.0.0.0', '::', '192.168.0.1', '127.0.0.1.evil.example'].some(isLoopback)).to.equal(false);
  });
});
