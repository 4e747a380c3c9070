import { basename } from 'node:path';
import { z } from 'zod';
import { RxrayError, messageOf } from '../core/errors.js';
import { readInitializers, type HostTensors } from '../engine/index.js';
import { readBundle, readBundleFile, type Bundle } from '../models/bundle.js';
import { initDcgan, ofNetwork, type DcganOptions } from '../models/dcgan.js';
import { unfoldBatchNorm } from '../models/fold-batch-norm.js';

/** A generator and its discriminator from a bundle, and how they were trained. */
export interface TrainedGan {
  readonly architecture: DcganOptions;
  /** Both networks'; no encoder's. */
  readonly parameters: HostTensors;
  /** Drew the films that they were trained on from those that were held back. */
  readonly seed: number;
  /** What the bundle says of their training; nothing of an encoder's. */
  readonly training: Bundle['training'];
  /** The bundle that they were first part of, and the command that made it. */
  readonly origin: { readonly bundle: string; readonly command: unknown };
}

/** Throws `TRAINING_DATA` where `dir` holds no AnoGAN. */
export async function readTrainedGan(dir: string): Promise<TrainedGan> {
  try {
    const bundle = await readBundle(dir);
    if (bundle.kind !== 'anogan') throw new Error(`expected a bundle of the kind anogan, got ${bundle.kind}`);
    const { name: _dcgan, ...options } = bundle.architecture;
    const architecture = options as unknown as DcganOptions;
    const { encoder: _encoder, encoderHistory: _history, ...training } = bundle.training;
    const normalised = Object.fromEntries(
      Object.entries(initDcgan(architecture, 0)).flatMap(([name, { data }]) =>
        name.endsWith('/bn/gamma') ? [[name.slice(0, -'/bn/gamma'.length), data.length]] : [],
      ),
    );
    // Both networks, batch normalisation folded; the logits are in the features alone.
    const searched = readInitializers(await readBundleFile(dir, bundle, 'search'));
    const discriminator = readInitializers(await readBundleFile(dir, bundle, 'features'));
    return {
      architecture,
      parameters: unfoldBatchNorm(
        { ...ofNetwork(searched, 'generator'), ...ofNetwork(discriminator, 'discriminator') },
        normalised,
      ),
      seed: z.number().parse(training.seed),
      training,
      origin: (training.generator as TrainedGan['origin'] | undefined) ?? {
        bundle: basename(dir),
        command: training.command,
      },
    };
  } catch (cause) {
    throw new RxrayError('TRAINING_DATA', `no generator from ${dir}: ${messageOf(cause)}`, { cause });
  }
}
