import { Engine, type EngineSession, type HostTensors, type LoadOptions } from '../../src/engine/index.js';
import { inParts } from '../../src/models/in-parts.js';
import type { TrainStep } from '../../src/models/index.js';
import { timed, type Contender, type Setting } from './contender.js';

const WARM_UPS = 2;

/** A file run by the engine, as a pipeline runs it: on its one input, in parts of `most` at a time. */
export async function ours(
  bytes: Uint8Array,
  feeds: HostTensors,
  setting: Setting & Pick<LoadOptions, 'precision'>,
  most = Infinity,
): Promise<Contender> {
  const engine = new Engine();
  const session = await engine.load(bytes, setting);
  const [[name, tensor] = []] = Object.entries(feeds);
  const isSplit = name !== undefined && tensor !== undefined && (tensor.dims[0] ?? 1) > most;
  const run = isSplit
    ? (): Promise<HostTensors> => inParts(tensor, most, (part) => session.run({ [name]: part }))
    : (): Promise<HostTensors> => session.run(feeds);
  return contender(engine, session, run);
}

/** A training step whose state stays in the engine. */
export async function oursInTraining(
  step: TrainStep,
  parameters: HostTensors,
  feeds: HostTensors,
  setting: Setting,
): Promise<Contender> {
  const engine = new Engine();
  const state = engine.createState();
  await state.set(step.initialState(parameters));
  const session = await engine.load(step.bytes, { ...setting, state });
  return contender(engine, session, () => session.step(feeds));
}

async function contender(
  engine: Engine,
  { device }: EngineSession,
  run: () => Promise<HostTensors>,
): Promise<Contender> {
  await timed(WARM_UPS, run);
  return {
    name: 'ours',
    mode: device,
    details: {},
    run: (times) => timed(times, run),
    dispose: () => engine.dispose(),
  };
}
