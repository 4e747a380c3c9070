import { Engine } from '../../../src/engine/index.js';
import { exportResnet, initResnet, type ResnetOptions } from '../../../src/models/index.js';
import { timed, type Work } from '../contender.js';
import { trainedSize } from '../count-flops.js';
import { pytorch } from '../pytorch.js';
import { target } from '../target.js';

const GOAL_MS = 2000;

/** From the TensorFlow.js function to a session that is ready to run. */
export function compilation(options: ResnetOptions): Work {
  const { depth, inputSize, classes } = options;
  const parameters = initResnet(options, 1);
  return {
    name: `trace + compile: ResNet-${depth}`,
    parameters: trainedSize(parameters),
    goals: { 'the goal': 1 },
    async ours(setting) {
      const engine = new Engine();
      const compile = async (): Promise<void> => {
        const session = await engine.load(exportResnet(parameters, options).bytes, setting);
        await session.dispose();
      };
      return {
        name: 'ours',
        mode: 'trace, write ONNX, load',
        details: {},
        run: (times) => timed(times, compile),
        dispose: () => engine.dispose(),
      };
    },
    peers: async (setting) => [
      target(GOAL_MS),
      await pytorch('resnet_compilation', { depth, size: inputSize, classes }, setting),
    ],
  };
}
