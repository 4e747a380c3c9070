import type { Command } from 'commander';
import { trainAnogan } from './train/anogan.js';
import { trainResnet } from './train/resnet.js';

export function train(program: Command): void {
  const command = program.command('train');
  trainResnet(command);
  trainAnogan(command);
}
