import { isDeepStrictEqual } from 'node:util';
import { RxrayError } from '../core/errors.js';
import { readInitializers, type HostTensors } from '../engine/index.js';
import { readBundle, readBundleFile, type Bundle } from '../models/bundle.js';

/** Weights that a training starts from, instead of random ones. */
export interface InitialWeights {
  readonly parameters: HostTensors;
  /** Of the films that they were trained on: what the network subtracts and divides by. */
  readonly statistics: { readonly mean?: number; readonly std?: number };
  /** Name and SHA-256 of the bundle's file: part of what a checkpoint was made with. */
  readonly from: string;
}

/**
 * The weights of a bundle, of one of `kinds`, as a start for a network of the same shape (`like`): every parameter of
 * `like` must be there in the same size, but those that `fresh` accepts, which keep their random values. Throws
 * `TRAINING_DATA` where the bundle holds another network.
 */
export async function initialWeights(
  dir: string,
  kinds: Bundle['kind'] | readonly Bundle['kind'][],
  like: HostTensors,
  fresh: (name: string, kind: Bundle['kind']) => boolean = () => false,
): Promise<InitialWeights> {
  const refuse = (reason: string): never => {
    throw new RxrayError('TRAINING_DATA', `--init ${dir}: ${reason}`);
  };
  const bundle = await readBundle(dir);
  const { kind } = bundle;
  const accepted = [kinds].flat() as readonly Bundle['kind'][];
  if (!accepted.includes(kind))
    refuse(
      `it holds a bundle of kind "${kind}", expected ${accepted.map((each) => `"${each}"`).join(' or ')}`,
    );
  const stored = readInitializers(await readBundleFile(dir, bundle, 'model'));
  const parameters: Record<string, HostTensors[string]> = {};
  for (const [name, tensor] of Object.entries(like)) {
    const found = stored[name];
    if (found !== undefined && isDeepStrictEqual([...found.dims], [...tensor.dims])) parameters[name] = found;
    else if (fresh(name, kind)) parameters[name] = tensor;
    else
      refuse(
        `its network has no parameter ${name} of ${tensor.dims.join('×')}: give the same --width and layers`,
      );
  }
  const { mean, std } = bundle.architecture;
  return {
    parameters,
    statistics: {
      ...(typeof mean === 'number' && { mean }),
      ...(typeof std === 'number' && { std }),
    },
    from: `${bundle.name} ${bundle.files.model?.sha256 ?? ''}`,
  };
}
