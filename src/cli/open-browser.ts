import { spawn } from 'node:child_process';

/**
 * Shows an address in the desktop's browser; does nothing where there is no desktop. Never throws, and never waits for
 * the browser.
 */
export function openBrowser(address: string, env: NodeJS.ProcessEnv = process.env): void {
  const [program, ...args] = browserCommand(address, process.platform, env) ?? [];
  if (program === undefined) return;
  const child = spawn(program, args, { detached: true, stdio: 'ignore', env });
  child.on('error', () => undefined);
  child.unref();
}

/**
 * The command that shows an address in the desktop's browser: `open` (macOS), `rundll32` (Windows), `xdg-open`.
 * Undefined without a desktop: over SSH, in CI, on Linux without a display, and with `BROWSER=none`.
 */
export function browserCommand(
  address: string,
  platform: NodeJS.Platform,
  env: NodeJS.ProcessEnv,
): readonly [program: string, ...args: string[]] | undefined {
  const isSet = (name: string): boolean => (env[name] ?? '') !== '';
  if (env['BROWSER'] === 'none' || isSet('SSH_CONNECTION') || isSet('CI')) return undefined;
  if (platform === 'darwin') return ['open', address];
  if (platform === 'win32') return ['rundll32', 'url.dll,FileProtocolHandler', address];
  return isSet('DISPLAY') || isSet('WAYLAND_DISPLAY') ? ['xdg-open', address] : undefined;
}
