// Run by `rxray test example-stage.test.ts`.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { makeFrame, runStage, stageContract, testServices } from 'rxray/testing';
import stage from './example-stage.ts';

// What every stage must do: leave its input alone, fail only the guilty frame, say what its options mean.
stageContract('example-stage', () => ({
  plugin: stage,
  refused: [{ darkBelow: 2 }],
  frame: (index) => makeFrame({ name: `film-${index}.png`, seed: index }),
}));

void it('calls a black film dark', async () => {
  const services = testServices({ id: 'brightness' });
  const black = { width: 2, height: 2, channels: 1, data: new Uint8Array(4) } as const;
  const [frame] = await runStage(await stage.create({ darkBelow: 0.2 }, services), [
    makeFrame({ image: black }),
  ]);
  services.cleanup();
  assert.ok(frame !== undefined && !(frame instanceof Error));
  assert.deepEqual(frame.results, { brightness: { kind: 'brightness', mean: 0, dark: true } });
});
