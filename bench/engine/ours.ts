import { Engine, type EngineSession, type HostTensors, type LoadOptions } from '../../src/engine/index.js';
import type { TrainStep } from '../../src/models/index.js';
import { timed, type Contender, type Setting } from './contender.js';

const WARM_UPS = 2;

/** A file run by the engine, as a pipeline runs it. */
export async function ours(
  bytes: Uint8Array,
  feeds: HostTensors,
  setting: Setting & Pick<LoadOptions, 'precision'>,
  run = (session: EngineSession) => session.run(feeds),
): Promise<Contender> {
  const engine = new Engine();
  const session = await engine.load(bytes, setting);
  return contender(engine, session, () => run(session));
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
