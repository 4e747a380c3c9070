import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const KEY = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes';

/** A certificate authority with files in a folder. */
export class Authority {
  /** The file of its certificate. */
  readonly cert: string;
  readonly #key: string;

  private constructor(
    private readonly folder: string,
    name: string,
  ) {
    this.cert = join(folder, `${name}.pem`);
    this.#key = join(folder, `${name}.key`);
  }

  /** Undefined without openssl 3. */
  static create(folder: string, name: string): Authority | undefined {
    const authority = new Authority(folder, name);
    const made = openssl(`req -x509 ${KEY} -days 1 -subj /CN=${name}`, authority.#key, authority.cert);
    return made ? authority : undefined;
  }

  /** Writes a key and a certificate for 127.0.0.1; a number of days below 0: it has expired. */
  issue(name: string, days = 1): { cert: string; key: string } {
    const [cert, key, request] = ['pem', 'key', 'csr'].map((end) => join(this.folder, `${name}.${end}`));
    if (cert === undefined || key === undefined || request === undefined) throw new Error();
    openssl(`req ${KEY} -subj /CN=${name} -addext subjectAltName=IP:127.0.0.1`, key, request);
    const signed = spawnSync('openssl', [
      ...['x509', '-req', '-in', request, '-CA', this.cert, '-CAkey', this.#key],
      ...['-CAcreateserial', '-copy_extensions', 'copy', '-days', String(days), '-out', cert],
    ]);
    if (signed.status !== 0) throw new Error(signed.stderr.toString());
    return { cert, key };
  }
}

function openssl(command: string, key: string, out: string): boolean {
  return spawnSync('openssl', [...command.split(' '), '-keyout', key, '-out', out]).status === 0;
}
