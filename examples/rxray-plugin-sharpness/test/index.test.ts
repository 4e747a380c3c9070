// Run by `npm test`.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { makeFrame, runStage, stageContract, testServices } from 'rxray/testing';
import stage, { varianceOfLaplacian } from '../src/index.ts';

// What every stage must do: leave its input alone, fail only the guilty frame, say what its options mean.
stageContract('sharpness', () => ({
  plugin: stage,
  refused: [{ blurredBelow: -1 }],
  frame: (index) => makeFrame({ name: `film-${index}.png`, seed: index }),
}));

const white = { width: 3, height: 3, channels: 1, data: new Uint8Array(9).fill(255) } as const;

void it('measures what one can reckon by hand', () => {
  assert.equal(varianceOfLaplacian(white), 0);
  // Two inner pixels: -4 under the white one, 1 beside it.
  const data = new Uint16Array(12);
  data[5] = 65535;
  assert.equal(varianceOfLaplacian({ width: 4, height: 3, channels: 1, data }), 6.25);
});

void it('calls a film without any edge blurred', async () => {
  const services = testServices({ id: 'focus' });
  const [frame] = await runStage(await stage.create({ blurredBelow: 0.0005 }, services), [
    makeFrame({ image: white }),
  ]);
  services.cleanup();
  assert.ok(frame !== undefined && !(frame instanceof Error));
  assert.deepEqual(frame.results, { focus: { kind: 'sharpness', variance: 0, blurred: true } });
});
