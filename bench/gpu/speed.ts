import { median, type Contender, type Work } from '../engine/contender.js';
import { takeTurns } from '../engine/turns.js';
import { latentStep } from '../engine/works/latent-step.js';
import { resnetInference } from '../engine/works/resnet-inference.js';
import { dcganStep, resnetStep } from '../engine/works/training-step.js';
import type { Section } from './row.js';

const RESNET = { width: 64, classes: 4, inputSize: 256 };
const LIMITS = { turns: 5, longestMs: 3_000 };
const GOAL_WORK = 'inference: ResNet-50, 256×256, batch 64';
/** Ours ÷ PyTorch's time. */
const GOAL = 1.5;

/** Inference, latent search and training steps, beside PyTorch on the same device. */
export const besidePyTorch: Section = async function* (setting) {
  const batches = setting.quick ? [1, 4] : [64, 1, 16, 256];
  const works: (() => Work)[] = [
    ...[50, 18].flatMap((depth) =>
      batches.map((batch) => () => resnetInference({ ...RESNET, depth: depth as 18 | 50 }, batch, 'PyTorch')),
    ),
    ...(setting.device === 'cpu' ? [] : [64, 16]).map(
      (batch) => () => resnetInference({ ...RESNET, depth: 50 }, batch, 'PyTorch', 'half'),
    ),
    () => latentStep({ width: setting.quick ? 8 : 64 }, setting.quick ? 4 : 32),
    () => resnetStep({ ...RESNET, depth: 18, inputSize: 128 }, setting.quick ? 4 : 32),
    () => dcganStep('discriminator', { width: setting.quick ? 8 : 64 }, setting.quick ? 4 : 64),
    () => dcganStep('generator', { width: setting.quick ? 8 : 64 }, setting.quick ? 4 : 64),
    ...(setting.quick ? [] : [() => resnetStep({ ...RESNET, depth: 50, inputSize: 224 }, 8)]),
  ];
  for (const make of works) {
    const { name, stepsARun = 1, ...work } = make();
    if (!setting.works.some((beginning) => name.startsWith(beginning))) continue;
    try {
      const ours = await work.ours(setting);
      const [torch] = (await work.peers(setting)).filter((peer) => peer.name === 'PyTorch');
      const peer: Contender | undefined = torch === undefined || 'missing' in torch ? undefined : torch;
      const times = await takeTurns(peer === undefined ? [ours] : [ours, peer], LIMITS);
      const ms = (contender: Contender): number => median(times.get(contender) ?? []) / stepsARun;
      const goal = name === GOAL_WORK;
      yield {
        what: name,
        ours: ms(ours),
        ...(peer && { peer: ms(peer) }),
        ...(goal && peer && { goal: `≤ ${String(GOAL)} ×`, ok: ms(ours) / ms(peer) <= GOAL }),
        detail:
          peer === undefined ? `PyTorch: ${torch && 'missing' in torch ? torch.missing : ''}` : peer.mode,
      };
      for (const contender of [ours, ...(peer ? [peer] : [])]) await contender.dispose();
    } catch (error) {
      yield { what: name, ok: false, detail: error instanceof Error ? error.message : String(error) };
    }
  }
};
