import { expect } from 'chai';
import { proxyFor } from '../../src/core/proxied-fetch.js';

describe('the proxy of the environment', () => {
  const HTTP_PROXY = 'http://proxy.ward.example:3128';
  const HTTPS_PROXY = 'http://secure.ward.example:3129';
  const proxy = (url: string, env: Record<string, string> = {}): string | undefined =>
    proxyFor(new URL(url), { HTTP_PROXY, HTTPS_PROXY, ...env })?.host;

  it('is the one of the protocol; without one, connections are direct', () => {
    expect(proxy('http://ris.example.org/')).to.equal('proxy.ward.example:3128');
    expect(proxy('https://ris.example.org/')).to.equal('secure.ward.example:3129');
    expect(proxyFor(new URL('https://ris.example.org/'), { HTTP_PROXY })).to.equal(undefined);
    expect(proxyFor(new URL('http://ris.example.org/'), {})).to.equal(undefined);
    expect(proxy('http://ris.example.org/', { HTTP_PROXY: '' })).to.equal(undefined);
  });

  it('may be in lower case, which has precedence, and without its protocol', () => {
    expect(proxy('http://ris.example.org/', { http_proxy: 'other.example:8080' })).to.equal(
      'other.example:8080',
    );
    expect(proxy('http://ris.example.org/', { http_proxy: '' })).to.equal(undefined);
  });

  it('is never used for this machine, private networks and local names', () => {
    for (const host of [
      ...['localhost', 'ris.localhost', '127.0.0.1', '127.9.9.9', '[::1]', '0.0.0.0', '2130706433', '0x7f.1'],
      ...['10.1.2.3', '172.16.0.9', '172.31.255.1', '192.168.1.7', '169.254.1.1', '100.64.0.1'],
      ...[
        '[fd12::7]',
        '[fe80::1]',
        '[::ffff:10.1.2.3]',
        'ris',
        'orthanc.local',
        'pacs.ward.internal',
        'localhost.',
      ],
    ]) {
      expect(proxy(`http://${host}/`), host).to.equal(undefined);
    }
    for (const host of ['172.32.0.1', '11.0.0.1', '[2001:db8::1]', 'local.example.org', '[::ffff:8.8.8.8]']) {
      expect(proxy(`http://${host}/`), host).not.to.equal(undefined);
    }
  });

  it('is not used for the hosts of NO_PROXY', () => {
    const passes = (url: string, NO_PROXY: string): boolean => proxy(url, { NO_PROXY }) === undefined;
    for (const entry of [
      '*',
      'ris.example.org',
      'example.org',
      '.example.org',
      '*.example.org',
      'EXAMPLE.org',
    ]) {
      expect(passes('http://ris.example.org/', entry), entry).to.equal(true);
    }
    expect(passes('http://ris.example.org/', 'other.org, ris.example.org')).to.equal(true);
    expect(passes('http://ris.example.org./', 'ris.example.org')).to.equal(true);
    expect(passes('http://ris.example.org:8080/', 'ris.example.org:8080')).to.equal(true);
    expect(passes('https://ris.example.org/', 'ris.example.org:443')).to.equal(true);
    expect(passes('http://203.0.113.9/', '203.0.113.0/24')).to.equal(true);
    expect(passes('http://203.0.113.9/', '203.0.113.9')).to.equal(true);
    expect(passes('http://[2001:db8::1]:81/', '[2001:db8::1]:81')).to.equal(true);
    expect(passes('http://[2001:db8::1]/', '2001:db8::/32')).to.equal(true);
    for (const entry of [
      '',
      ',',
      'ample.org',
      'ris.example.org:81',
      'xris.example.org',
      '203.0.113.0/24',
      'org.',
    ]) {
      expect(passes('http://ris.example.org/', entry), entry).to.equal(false);
    }
    expect(passes('http://203.0.114.9/', '203.0.113.0/24')).to.equal(false);
    expect(passes('http://203.0.113.9/', '203.0.113.0/99')).to.equal(false);
  });

  it('is refused if it is not an HTTP proxy, without showing a password', () => {
    for (const HTTP_PROXY of [
      'socks5://u:s3cret@proxy.example:1080',
      'http://',
      'http://u:s3cret@:0x/',
      '://s3cret',
    ]) {
      expect(() => proxy('http://ris.example.org/', { HTTP_PROXY }), HTTP_PROXY)
        .to.throw('HTTP_PROXY names no HTTP proxy')
        .with.property('message')
        .that.does.not.include('s3cret');
    }
  });
});
