import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import type { MiddlewareHandler } from 'hono';
import { getCookie } from 'hono/cookie';
import { secureHeaders } from 'hono/secure-headers';
import { isSecret } from '../core/http.js';
import { isThisMachine } from '../core/this-machine.js';

/** How requests reach the process. */
export interface Entrance {
  /**
   * `socket`: the local socket, which only the same user can open. `loopback`: browsers of this machine; the host name
   * must be this machine's too, against DNS rebinding. `network`: clients with the token.
   */
  readonly kind: 'socket' | 'loopback' | 'network';
  readonly token?: string | undefined;
}

/** Hashed with the token, so that another site's cookie of that name is not accepted. */
export const COOKIE = 'rxray_token';

/** Routes without a token: they contain nothing about films. */
const OPEN = new Set(['/healthz', '/readyz', '/api/session']);

/** All resources come from this program; no other site may frame the page. */
export const headers: MiddlewareHandler = secureHeaders({
  contentSecurityPolicy: {
    defaultSrc: ["'none'"],
    scriptSrc: ["'self'"],
    styleSrc: ["'self'"],
    imgSrc: ["'self'", 'blob:', 'data:'],
    fontSrc: ["'self'"],
    connectSrc: ["'self'"],
    manifestSrc: ["'self'"],
    baseUri: ["'none'"],
    formAction: ["'none'"],
    frameAncestors: ["'none'"],
  },
  referrerPolicy: 'no-referrer',
  // Plain HTTP: a proxy that adds TLS sets its own header.
  strictTransportSecurity: false,
});

/** Checks host, origin and token of requests. */
export function guard({ kind, token }: Entrance): MiddlewareHandler {
  return async (c, next) => {
    if (kind === 'socket') return next();
    const host = hostname(c.req.header('host'));
    if (kind === 'loopback' && !isThisMachine(host)) {
      return c.json(
        { error: { code: 'HOST', message: `expected this machine's own name, got "${host}"` } },
        403,
      );
    }
    if (!sameOrigin(c.req.header('origin'), c.req.header('host'), c.req.header('sec-fetch-site'))) {
      return c.json({ error: { code: 'ORIGIN', message: 'asked by another site' } }, 403);
    }
    const isAsset = c.req.method === 'GET' && !c.req.path.startsWith('/api/') && c.req.path !== '/metrics';
    if (token !== undefined && !OPEN.has(c.req.path) && !isAsset) {
      const bearer = /^Bearer (.+)$/.exec(c.req.header('authorization') ?? '')?.[1];
      const cookie = getCookie(c, COOKIE);
      const fits =
        (bearer !== undefined && isSecret(bearer, token)) ||
        (cookie !== undefined && isSecret(cookie, cookieOf(token)));
      if (!fits) return c.json({ error: { code: 'TOKEN', message: 'the token is missing or wrong' } }, 401);
    }
    return next();
  };
}

/** The cookie's value, which replaces the token. */
export function cookieOf(token: string): string {
  return createHash('sha256').update(`cookie ${token}`).digest('hex');
}

/** Whether the request comes from the page itself or from a program, not from another site. */
function sameOrigin(origin: string | undefined, host: string | undefined, site: string | undefined): boolean {
  if (site !== undefined && !['same-origin', 'none'].includes(site)) return false;
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

function hostname(header = ''): string {
  return header.replace(/:\d+$/, '').toLowerCase();
}

/** Whether a server bound to this address can only be reached from this machine. */
export function isLoopback(address: string): boolean {
  if (address === 'localhost' || address === '::1') return true;
  return isIP(address) === 4 && address.startsWith('127.');
}
