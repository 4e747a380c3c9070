import { InvalidArgumentError, Option, type Command } from 'commander';
import type { Cluster } from '../core/config/pipeline.js';
import { LOG } from '../core/container.js';
import { ClusterWorker } from '../cluster/worker.js';
import { builtInRegistry } from '../host/builtins.js';
import { createHost } from '../host/host.js';
import { EXIT } from './exit.js';
import { createLog } from './log.js';

interface WorkFlags {
  readonly servers: readonly string[];
  readonly credentials: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly pipeline?: string;
  readonly shutdownTimeout: number;
}

const EXAMPLES = `
Examples:
  $ rxray work --servers nats://10.0.0.5:4222
  $ NATS_URL=nats://10.0.0.5 rxray work --pipeline ward    for the head of that pipeline alone

On SIGTERM it takes no more films, finishes those in progress, hands the others back, and ends.`;

export function work(program: Command): void {
  program
    .command('work')
    .addOption(
      new Option('--servers <urls>', 'the NATS servers, with commas between')
        .env('NATS_URL')
        .argParser((value: string) => value.split(',').map((url) => url.trim()))
        .makeOptionMandatory(),
    )
    .addOption(new Option('--credentials <file>', 'a credentials file of NATS').env('NATS_CREDS').default(''))
    .addOption(
      new Option('--tls-ca <file>', 'certificates to trust (PEM); requires encryption').env('NATS_CA'),
    )
    .addOption(
      new Option('--tls-cert <file>', 'our certificate (PEM), if the servers require one').env('NATS_CERT'),
    )
    .addOption(new Option('--tls-key <file>', 'its private key (PEM)').env('NATS_KEY'))
    .option(
      '--pipeline <name>',
      'work only for the head of this pipeline (default: the first one that answers)',
    )
    .addOption(
      new Option('--shutdown-timeout <ms>', 'how long films in progress may take to finish')
        .default(30_000)
        .argParser(milliseconds),
    )
    .addHelpText('after', EXAMPLES)
    .action(async ({ servers, credentials, pipeline, shutdownTimeout, ...files }: WorkFlags) => {
      const nats = { servers: [...servers], credentials, tls: tlsOf(files) };
      const host = createHost(createLog());
      const worker = new ClusterWorker(host, {
        pipeline,
        shutdownTimeoutMs: shutdownTimeout,
        registry: builtInRegistry(),
      });
      const stop = (signal: NodeJS.Signals): void => {
        // The second signal ends it at once.
        process.off(signal, stop);
        worker.stop();
      };
      process.on('SIGINT', stop);
      process.on('SIGTERM', stop);
      let isConnected: boolean;
      try {
        const started = worker.start(nats).then(() => true);
        isConnected = await Promise.race([started, worker.finished.then(() => false)]);
        if (isConnected) host.get(LOG).info({ worker: worker.id }, 'waiting for a head');
        await worker.finished;
        process.exitCode = EXIT.fine;
      } finally {
        await host.unbindAllAsync();
      }
      // A connection that is still being made would keep the process running.
      if (!isConnected) setImmediate(() => process.exit());
    });
}

function tlsOf({ tlsCa, tlsCert, tlsKey }: Partial<WorkFlags>): Cluster['with']['tls'] {
  if (tlsCa === undefined && tlsCert === undefined && tlsKey === undefined) return undefined;
  return { ca: tlsCa, cert: tlsCert, key: tlsKey };
}

function milliseconds(value: string): number {
  const ms = Number(value);
  if (!Number.isInteger(ms) || ms < 0)
    throw new InvalidArgumentError(`expected milliseconds, got "${value}"`);
  return ms;
}
