export {
  DCGAN_IMAGE_SIZE,
  dcganDiscriminatorStep,
  dcganGeneratorStep,
  dcganSampleStep,
  initDcgan,
  type DcganOptions,
  type DcganTraining,
} from './dcgan.js';
export { exportEncoder, hasEncoder, initEncoder, iziTrainStep } from './izi-encoder.js';
export { exportAnogan, type AnoganFiles } from './latent-search.js';
export { ForwardPass, isMovingStatistic } from './layers.js';
export type { AdamOptions, OptimizerOptions, RmspropOptions, SgdOptions } from './optimizers.js';
export { turnLatentSpace } from './principal-axes.js';
export { dropoutMask, filled, normalNoise, seededRandom } from './random.js';
export {
  DENSE_HEAD_UNITS,
  hasDenseLayer,
  exportResnet,
  initResnet,
  resnetClassify,
  resnetEvalStep,
  resnetForward,
  resnetTrainStep,
  type ResnetExport,
  type ResnetHead,
  type ResnetOptions,
  type ResnetTraining,
} from './resnet.js';
export {
  exportRetinanet,
  initRetinanet,
  isPretrained,
  retinanetEvalStep,
  retinanetTrainStep,
  type RetinanetOptions,
  type RetinanetTraining,
} from './retinanet.js';
export type { TrainStep } from './train-step.js';
export {
  exportUnet,
  initUnet,
  unetEvalStep,
  unetForward,
  unetTrainStep,
  UNET_UPSAMPLING,
  type UnetOptions,
  type UnetTraining,
  type UnetUpsampling,
} from './unet.js';
export { wganCriticStep, wganGeneratorStep } from './wgan-gp.js';
