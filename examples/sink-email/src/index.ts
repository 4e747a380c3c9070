import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import nodemailer, { type SendMailOptions } from 'nodemailer';
import { defineSink, Unavailable, verdictOf, z, type Frame } from 'rxray';

const options = z.strictObject({
  url: z
    .string()
    .regex(/^smtps?:\/\//, 'expected smtp://user:password@host:port')
    .describe('The mail server, `smtp://user:password@host:port`, or `smtps:` for TLS from the start.'),
  from: z.email().describe('The sender.'),
  to: z.array(z.email()).min(1).describe('The receivers.'),
  page: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe('The address of `rxray run --page`: mails then have a link to the film.'),
  digestMinutes: z
    .number()
    .min(0)
    .default(0)
    .describe('At most one mail in so many minutes, and one at the end of the run. 0: a mail per film.'),
  requireTls: z
    .boolean()
    .default(true)
    .describe('Refuse a mail server that offers no TLS, before the password is sent.'),
});

export default defineSink({
  name: 'email',
  version: '0.1.0',
  rxray: '^0.1.0',
  summary: 'Sends an e-mail per film, or a digest: ids and verdicts, never names.',
  options,
  examples: [
    {
      title: 'A mail per film',
      with: { url: 'smtp://rxray@mail.example.org:587', from: 'rxray@example.org', to: ['ward@example.org'] },
    },
    {
      title: 'A digest an hour',
      with: {
        url: 'smtp://rxray@mail.example.org:587',
        from: 'rxray@example.org',
        to: ['ward@example.org'],
        digestMinutes: 60,
      },
    },
  ],
  // A mail server sees every attempt: after a crash the same film gives the same mail.
  outbox: true,
  async create({ url, from, to, page, digestMinutes, requireTls }, { id, log, stateDir }) {
    const server = nodemailer.createTransport({
      url,
      requireTLS: requireTls && url.startsWith('smtp:'),
      connectionTimeout: 10_000,
      socketTimeout: 30_000,
    });
    const send = async (lines: readonly Line[]): Promise<void> => {
      try {
        await server.sendMail({ from, to: [...to], ...mailOf(lines, page) });
      } catch (error) {
        throw isOutage(error) ? new Unavailable(`the mail server takes nothing: ${textOf(error)}`) : error;
      }
    };
    const close = (): void => {
      server.close();
    };
    if (digestMinutes === 0) return oneByOne(send, close);
    const digest = await Digest.open(join(stateDir, `${id}.digest.jsonl`), send, (error) => {
      log.warn({}, `the digest could not be sent, it is tried again: ${textOf(error)}`);
    });
    const timer = setInterval(() => void digest.send(), digestMinutes * 60_000);
    let closed: Promise<void> | undefined;
    return {
      write: (frames) => digest.add(frames.map(lineOf)),
      dispose() {
        clearInterval(timer);
        return (closed ??= digest.close().finally(close));
      },
    };
  },
});

/** What a mail says of a film. */
interface Line {
  readonly id: string;
  readonly text: string;
}

function lineOf({ id, results }: Frame): Line {
  const { abnormal, suspicion, abnormalStages, stage } = verdictOf(results);
  const what = abnormal === true ? 'Suspicious film' : abnormal === false ? 'Film' : 'Film without a verdict';
  const by = abnormal === true ? abnormalStages.join(', ') : stage;
  const number =
    suspicion === null ? '' : `: suspicion ${suspicion.toFixed(2)}${by === null ? '' : ` (${by})`}`;
  return { id, text: `${what} ${id.slice(0, 8)}${number}` };
}

/** One film: its line is the subject. The same films give the same Message-ID, by which mail programs drop repetitions. */
function mailOf(lines: readonly Line[], page: string | undefined): SendMailOptions {
  const [first] = lines;
  const subject = lines.length === 1 ? (first?.text ?? '') : `${lines.length} films`;
  const entries = lines.map(({ id, text }) => {
    const link = page === undefined ? id : new URL(`#films/${id}`, page).href;
    return `${text}\n${link}`;
  });
  return {
    subject,
    messageId: `<${first?.id ?? ''}.${lines.length}@rxray>`,
    text: `${entries.join('\n\n')}\n\nNot a medical device: for research, not for diagnosis.\n`,
  };
}

function oneByOne(send: (lines: readonly Line[]) => Promise<void>, close: () => void) {
  let sending: Promise<unknown> = Promise.resolve();
  let closed: Promise<void> | undefined;
  return {
    async write(frames: readonly Frame[]): Promise<void> {
      if (closed !== undefined) throw new Error('the sink is closed');
      const sent = sending.then(async () => {
        for (const frame of frames) await send([lineOf(frame)]);
      });
      sending = sent.catch(() => undefined);
      await sent;
    },
    dispose(): Promise<void> {
      return (closed ??= sending.then(close));
    },
  };
}

/** Films that the next mail is about, in a file: a film is delivered when its line is on the disk. */
class Digest {
  #lines: Map<string, Line>;
  /** Writes and sends, one after the other. */
  #work: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(
    private readonly path: string,
    private readonly mail: (lines: readonly Line[]) => Promise<void>,
    private readonly onError: (error: unknown) => void,
    lines: readonly Line[],
  ) {
    this.#lines = new Map(lines.map((line) => [line.id, line]));
  }

  static async open(
    path: string,
    mail: (lines: readonly Line[]) => Promise<void>,
    onError: (error: unknown) => void,
  ): Promise<Digest> {
    const text = await readFile(path, 'utf8').catch(() => '');
    return new Digest(path, mail, onError, text.split('\n').flatMap(parsed));
  }

  /** Resolves when the films are on the disk. */
  add(lines: readonly Line[]): Promise<void> {
    if (this.#closed) return Promise.reject(new Error('the sink is closed'));
    return this.#then(async () => {
      const fresh = lines.filter(({ id }) => !this.#lines.has(id));
      if (fresh.length === 0) return;
      await mkdir(dirname(this.path), { recursive: true });
      const file = await open(this.path, 'a', 0o600);
      try {
        await file.write(fresh.map((line) => `\n${JSON.stringify(line)}`).join(''));
        await file.sync();
      } finally {
        await file.close();
      }
      for (const line of fresh) this.#lines.set(line.id, line);
    });
  }

  /** Sends what there is. The file stays until the server has taken the mail. */
  send(): Promise<void> {
    return this.#then(async () => {
      if (this.#lines.size === 0) return;
      try {
        await this.mail([...this.#lines.values()]);
        await rm(this.path, { force: true });
        this.#lines.clear();
      } catch (error) {
        this.onError(error);
      }
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.send();
  }

  #then(act: () => Promise<void>): Promise<void> {
    const done = this.#work.then(act);
    this.#work = done.catch(() => undefined);
    return done;
  }
}

/** None for a line that a crash has cut off: its film was not confirmed, and comes again. */
function parsed(line: string): Line[] {
  try {
    return [JSON.parse(line) as Line];
  } catch {
    return [];
  }
}

/** The server is away, busy, or does not let us in. Everything else is about the mail: a receiver that it does not know. */
function isOutage(error: unknown): boolean {
  const { code = '', responseCode = 0 } = error as { code?: string; responseCode?: number };
  if (responseCode >= 400 && responseCode < 500) return true;
  return ['ECONNECTION', 'ETIMEDOUT', 'ESOCKET', 'EDNS', 'ETLS', 'EAUTH', 'ECONNREFUSED'].includes(code);
}

/** Without the server's own words, which may repeat the address of a receiver. */
function textOf(error: unknown): string {
  if (error instanceof Unavailable) return error.message;
  const { code, responseCode } = error as { code?: string; responseCode?: number };
  return [code ?? 'unknown error', responseCode].filter((part) => part !== undefined).join(' ');
}
