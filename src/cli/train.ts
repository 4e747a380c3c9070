import type { Command } from 'commander';
import { trainAnogan } from './train/anogan.js';
import { trainEnsemble } from './train/ensemble.js';
import { trainPatchcore } from './train/patchcore.js';
import { trainResnet } from './train/resnet.js';
import { trainRetinanet } from './train/retinanet.js';
import { trainUnet } from './train/unet.js';

const EXAMPLES = `
Examples:
  $ rxray train resnet --data films --out models/mine             a classifier of a folder of classes
  $ rxray train anogan --data films --out models/mine-anogan      an anomaly detector, trained on the class "normal"
  $ rxray train patchcore --data films --out models/mine-patches  the same from patches of a film, in minutes
  $ rxray train unet --data lungs --out models/lungs              masks of a structure: lungs/images, lungs/masks
  $ rxray train retinanet --data boxes.csv --out models/boxes     boxes around something: path, label, x, y, w, h
  $ rxray train resnet --help                                     the options of one command`;

export function train(program: Command): void {
  const command = program.command('train').addHelpText('after', EXAMPLES);
  trainResnet(command);
  trainEnsemble(command);
  trainAnogan(command);
  trainPatchcore(command);
  trainUnet(command);
  trainRetinanet(command);
}
