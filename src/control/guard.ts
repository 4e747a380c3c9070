import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { MiddlewareHandler } from 'hono';
import { getCookie } from 'hono/cookie';
import { secureHeaders } from 'hono/secure-headers';

/** How requests reach the process. */
export interface Entrance {
  /**
   * `socket`: the local socket, which only the same user can open; `loopback`: this machine's browsers,
   * so that the name they asked for must be this machine's, too (a web page elsewhere can let its own name
   * point here: DNS rebinding); `network`: whoever has the token.
   */
  readonly kind: 'socket' | 'loopback' | 'network';
  readonly token?: string | undefined;
}

/** Goes with the token's hash, so that it can be told from another site's cookie of that name. */
export const COOKIE = 'rxray_token';

const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]', '::1']);

/** What is asked without a token: it says nothing of films. */
const OPEN = new Set(['/healthz', '/readyz', '/api/session']);

/** Everything comes from the program itself, nothing is loaded from elsewhere, nobody frames it. */
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
  // It is plain HTTP: a proxy that adds TLS says so itself.
  strictTransportSecurity: false,
});

/** Lets in whoever may ask: checks host, origin and token. */
export function guard({ kind, token }: Entrance): MiddlewareHandler {
  return async (c, next) => {
    if (kind === 'socket') return next();
    const host = hostname(c.req.header('host'));
    if (kind === 'loopback' && !LOOPBACK.has(host)) {
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
        (bearer !== undefined && isToken(bearer, token)) || (cookie !== undefined && isCookie(cookie, token));
      if (!fits) return c.json({ error: { code: 'TOKEN', message: 'the token is missing or wrong' } }, 401);
    }
    return next();
  };
}

/** Whether it is the token, in a time that does not tell how much of it is. */
export function isToken(given: string, token: string): boolean {
  return timingSafeEqual(sha256(given), sha256(token));
}

/** What the cookie holds in place of the token itself. */
export function cookieOf(token: string): string {
  return sha256(`cookie ${token}`).toString('hex');
}

function isCookie(given: string, token: string): boolean {
  return timingSafeEqual(sha256(given), sha256(cookieOf(token)));
}

/** The page itself, its own requests, or a program; never a page of somebody else. */
function sameOrigin(origin: string | undefined, host: string | undefined, site: string | undefined): boolean {
  if (site !== undefined && !['same-origin', 'none'].includes(site)) return false;
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

function hostname(header = ''): string {
  return header.replace(/:\d+$/, '').toLowerCase();
}

/** Whether a server that is bound to this address is reached from this machine alone. */
export function isLoopback(address: string): boolean {
  if (address === 'localhost' || address === '::1') return true;
  return isIP(address) === 4 && address.startsWith('127.');
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
