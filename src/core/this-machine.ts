/** Whether a host, as in a URL or an option, is this machine by one of its usual names. */
export function isThisMachine(host: string): boolean {
  return ['localhost', '127.0.0.1', '::1', '[::1]'].includes(host);
}
