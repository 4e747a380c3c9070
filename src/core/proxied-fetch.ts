import { BlockList, isIP } from 'node:net';
import type { Dispatcher } from 'undici';
import { RxrayError } from './errors.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Addresses of this machine and of private networks (RFC 1918, 3927, 4193, 4291, 6598). */
const PRIVATE = new BlockList();
PRIVATE.addSubnet('0.0.0.0', 8, 'ipv4');
PRIVATE.addSubnet('10.0.0.0', 8, 'ipv4');
PRIVATE.addSubnet('100.64.0.0', 10, 'ipv4');
PRIVATE.addSubnet('127.0.0.0', 8, 'ipv4');
PRIVATE.addSubnet('169.254.0.0', 16, 'ipv4');
PRIVATE.addSubnet('172.16.0.0', 12, 'ipv4');
PRIVATE.addSubnet('192.168.0.0', 16, 'ipv4');
PRIVATE.addSubnet('::', 127, 'ipv6');
PRIVATE.addSubnet('fc00::', 7, 'ipv6');
PRIVATE.addSubnet('fe80::', 10, 'ipv6');

/** Names that no outside proxy can resolve: those without a dot, and the endings that are reserved for local networks. */
const LOCAL_NAME = /^[^.]+$|\.(localhost|local|internal)$/;

/**
 * The proxy that the environment names for requests to this address; undefined for a direct connection. Addresses of this
 * machine and of private networks, local names and the hosts of `NO_PROXY` are never requested through a proxy.
 * Throws CONFIG_CREATE for anything else than an HTTP proxy.
 */
export function proxyFor({ protocol, hostname, port }: URL, env: Environment = process.env): URL | undefined {
  const variable = protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
  const given = valueOf(variable, env);
  if (given === '') return undefined;
  const host = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  if (isLocal(host)) return undefined;
  const actualPort = port === '' ? (protocol === 'https:' ? '443' : '80') : port;
  const entries = valueOf('NO_PROXY', env)
    .toLowerCase()
    .split(/[\s,]+/);
  if (entries.some((entry) => isExcepted(entry, host, actualPort))) return undefined;
  const proxy = parsed(given);
  if (proxy !== undefined && /^https?:$/.test(proxy.protocol)) return proxy;
  // Not the value: it may hold a password.
  throw new RxrayError(
    'CONFIG_CREATE',
    `${variable} names no HTTP proxy: expected http://host:port or https://host:port`,
  );
}

/** Like `fetch`, through the proxy that the environment names for the address and for those that it redirects to. */
export async function proxiedFetch(url: URL, init: RequestInit): Promise<Response> {
  const { env } = process;
  if (valueOf('HTTP_PROXY', env) + valueOf('HTTPS_PROXY', env) === '') return fetch(url, init);
  proxyFor(url);
  // Loaded only where there is a proxy.
  const undici = await import('undici');
  byEnvironment ??= new undici.Agent({
    factory: (origin, options) => {
      const proxy = proxyFor(new URL(origin));
      return proxy === undefined
        ? new undici.Pool(origin, options)
        : // Many proxies refuse tunnels to port 80.
          new undici.ProxyAgent({ uri: proxy.href, proxyTunnel: false });
    },
  });
  // Its types are those of another version than Node's.
  return undici.fetch(url, Object.assign(init, { dispatcher: byEnvironment }) as never);
}

let byEnvironment: Dispatcher | undefined;

/** The lower-case name wins, as in curl. */
function valueOf(name: string, env: Environment): string {
  return (env[name.toLowerCase()] ?? env[name] ?? '').trim();
}

function isLocal(host: string): boolean {
  const kind = isIP(host);
  return kind === 0 ? LOCAL_NAME.test(host) : PRIVATE.check(host, kind === 6 ? 'ipv6' : 'ipv4');
}

/** Whether the host is one that an entry of `NO_PROXY` names: `*`, a domain, an address, or a range of addresses. */
function isExcepted(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true;
  const [address = '', bits] = entry.split('/');
  const kind = isIP(address);
  if (kind !== 0) {
    const family = kind === 6 ? 'ipv6' : 'ipv4';
    const length = bits === undefined ? (kind === 6 ? 128 : 32) : Number(bits);
    if (!(Number.isInteger(length) && length >= 0 && length <= (kind === 6 ? 128 : 32))) return false;
    const range = new BlockList();
    range.addSubnet(address, length, family);
    return isIP(host) !== 0 && range.check(host, isIP(host) === 6 ? 'ipv6' : 'ipv4');
  }
  const [, name = '', onlyPort = port] = /^\[?(.*?)\]?(?::(\d+))?$/.exec(entry) ?? [];
  const domain = name.replace(/^\*?\./, '');
  return domain !== '' && onlyPort === port && (host === domain || host.endsWith(`.${domain}`));
}

function parsed(proxy: string): URL | undefined {
  try {
    return new URL(proxy.includes('://') ? proxy : `http://${proxy}`);
  } catch {
    return undefined;
  }
}
