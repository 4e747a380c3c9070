import { lastValueFrom, of } from 'rxjs';
import type { Pipeline, StageNode } from '../config/pipeline.js';
import { compileCondition } from '../expression.js';
import type { Frame } from '../frame.js';
import type { StageInstance } from '../plugin.js';
import type { Stages } from './create.js';
import { combine } from '../graph/join.js';

/**
 * The output of an entry of the graph for a film; null if the film does not reach it. Rejects with the entry's error.
 */
export type Remade = (id: string) => Promise<Frame | null>;

/**
 * Processes a film again for display: each stage at most once, and only the stages before the requested one. Nothing is
 * counted, delivered or recorded.
 */
export function remake(pipeline: Pipeline, stages: Stages, frame: Frame): Remade {
  const made = new Map<string, Promise<Frame | null>>();

  const at: Remade = (id) => {
    let result = made.get(id);
    if (result === undefined) {
      result = make(id);
      made.set(id, result);
    }
    return result;
  };
  return at;

  async function make(id: string): Promise<Frame | null> {
    if (frame.origin.source === id) return frame;
    const node = pipeline.stages.find((stage) => stage.id === id);
    const stage = stages.get(id);
    if (node === undefined || stage === undefined) return null;
    const input = await inputOf(node);
    return input === null ? null : apply(stage, input);
  }

  async function inputOf({ from, when }: StageNode): Promise<Frame | null> {
    const inputs = await Promise.all(from.map(at));
    const input = combine(inputs.filter((each) => each !== null));
    return input !== null && (when === undefined || compileCondition(when)(input)) ? input : null;
  }
}

async function apply(stage: StageInstance, frame: Frame): Promise<Frame> {
  if ('operator' in stage) return lastValueFrom(of(frame).pipe(stage.operator));
  if ('process' in stage) return stage.process(frame);
  const [out] = await stage.processBatch([frame]);
  if (out === undefined) throw new Error('the stage did not return the frame of its batch');
  return out;
}
