import type { Command } from 'commander';
import { trainAnogan } from './train/anogan.js';
import { trainEnsemble } from './train/ensemble.js';
import { trainPatchcore } from './train/patchcore.js';
import { trainResnet } from './train/resnet.js';

export function train(program: Command): void {
  const command = program.command('train');
  trainResnet(command);
  trainEnsemble(command);
  trainAnogan(command);
  trainPatchcore(command);
}
