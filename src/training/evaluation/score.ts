import type { Frame, Image, StageResult } from '../../core/frame.js';
import type { BatchStage, FrameStage, Log, Services } from '../../core/plugin.js';
import type { PluginRegistry } from '../../core/plugins/registry.js';
import { RxrayError } from '../../core/errors.js';
import type { Engine } from '../../engine/engine.js';
import type { Bundle } from '../../models/bundle.js';

const BATCH = 32;

/** A bundle's stage, created as in a graph. */
export interface Model {
  /** One result per image, in their order; `batchSize` images at a time. */
  score(images: readonly Image[], options?: ScoreOptions): Promise<StageResult[]>;
  dispose(): Promise<void>;
}

export interface ScoreOptions {
  readonly batchSize?: number;
  readonly onProgress?: (done: number) => void;
}

export interface ModelServices {
  readonly registry: PluginRegistry;
  readonly engine: Engine;
  readonly log: Log;
  readonly stateDir: string;
}

/**
 * Creates the stage that serving uses, so that evaluation and serving cannot differ.
 *
 * @param settings Options of the stage, besides the bundle. Throws `TRAINING_DATA` where it has no such option.
 */
export async function openModel(
  dir: string,
  kind: Bundle['kind'],
  settings: Readonly<Record<string, unknown>>,
  services: ModelServices,
): Promise<Model> {
  if (kind === 'segmenter') {
    throw new RxrayError(
      'TRAINING_DATA',
      'this command cannot run a segmenter: evaluate it with `rxray evaluate`',
    );
  }
  return openStage(dir, kind, settings, services);
}

/** The same for a bundle of any kind. */
export async function openStage(
  dir: string,
  kind: Bundle['kind'],
  settings: Readonly<Record<string, unknown>>,
  { registry, engine, log, stateDir }: ModelServices,
): Promise<Model> {
  const { plugin } = await registry.load('stage', stageOf(kind), dir);
  const parsed = plugin.options.safeParse({ bundle: dir, ...settings });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const where = issue?.path.join('.') ?? '';
    throw new RxrayError('TRAINING_DATA', `the stage \`${plugin.name}\`: ${where} ${issue?.message ?? ''}`);
  }
  const id = 'model';
  // The name of the engine in the `needs` of every model stage.
  const services: Services & { readonly engine: Engine } = {
    engine,
    id,
    log,
    baseDir: dir,
    stateDir,
    signal: new AbortController().signal,
    resolve: (path) => path,
  };
  const stage = (await plugin.create(parsed.data, services)) as BatchStage | FrameStage;
  const run = async (frames: readonly Frame[]): Promise<readonly Frame[]> => {
    if ('processBatch' in stage) return stage.processBatch(frames);
    const made: Frame[] = [];
    for (const frame of frames) made.push(await stage.process(frame));
    return made;
  };
  return {
    async score(images, { batchSize = BATCH, onProgress } = {}) {
      const results: StageResult[] = [];
      for (let from = 0; from < images.length; from += batchSize) {
        const frames = images.slice(from, from + batchSize).map(frameOf);
        for (const frame of await run(frames)) {
          const result = frame.results[id];
          if (result === undefined)
            throw new Error(`the stage \`${plugin.name}\` left a film without result`);
          results.push(result);
        }
        onProgress?.(results.length);
      }
      return results;
    },
    dispose: async () => {
      await stage.dispose?.();
    },
  };
}

/** The stage that serves bundles of a kind. */
export function stageOf(kind: Bundle['kind']): string {
  const stages: Partial<Record<Bundle['kind'], string>> = {
    classifier: 'resnet',
    segmenter: 'unet',
    detector: 'retinanet',
  };
  return stages[kind] ?? kind;
}

/** Only the pixels matter to a model. */
function frameOf(image: Image): Frame {
  const epoch = new Date(0).toISOString();
  const origin = { source: 'evaluation', name: '', path: '', size: 0, mtimeMs: 0, sha256: '' };
  return { id: '', origin: { ...origin, receivedAt: epoch }, image, meta: {}, results: {} };
}
