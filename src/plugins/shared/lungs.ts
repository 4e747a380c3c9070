import { imageOf, type Frame } from '../../core/frame.js';
import type { LintContext, LintMessage } from '../../core/plugin.js';
import { didYouMean } from '../../core/suggest.js';
import type { Segmentation } from '../unet.js';

/**
 * The result of the `unet` stage `id` for this frame. Throws if there is no such result, or if the image has been
 * cropped or resized since, so that the mask no longer matches.
 */
export function lungsOf(frame: Frame, id: string): Segmentation {
  const result = frame.results[id];
  if (result?.kind !== 'segmentation') {
    const known = Object.keys(frame.results);
    throw new Error(
      `there is no lung mask "${id}": put \`use: unet\` with \`id: ${id}\` before this stage` +
        (known.length === 0 ? '' : ` (there are results of ${known.join(', ')})`),
    );
  }
  const found = result as unknown as Segmentation;
  const { width, height } = imageOf(frame);
  // A test's mock may have no more than that there are none.
  if (!found.plausible) return found;
  if (width !== found.film.width || height !== found.film.height) {
    throw new Error(
      `the lung mask "${id}" was made for ${found.film.width}×${found.film.height} pixels, the image has ${width}×${height}: ` +
        'put this stage before stages that crop or resize the film',
    );
  }
  return found;
}

/** Errors where {@link lungsOf} would fail for every film. `option`: the one with the id. */
export function lintLungs(option: string, id: string, { preceding }: LintContext): LintMessage[] {
  // The results may come from any of the branches.
  if (preceding.some(({ use }) => use === 'join')) return [];
  const error = (message: string): LintMessage[] => [{ severity: 'error', option: [option], message }];
  const at = preceding.findLastIndex((stage) => stage.id === id);
  if (preceding[at]?.use !== 'unet') {
    const ids = preceding.flatMap((stage) =>
      stage.use === 'unet' && stage.id !== undefined ? [stage.id] : [],
    );
    const there = ids.length === 0 ? '' : ` (there is \`${ids.join('`, `')}\`)`;
    return error(`no stage \`unet\` before this one has the id "${id}"${didYouMean(id, ids) || there}`);
  }
  const between = preceding.slice(at + 1).find(({ use }) => use === 'crop' || use === 'resize');
  if (between === undefined) return [];
  return error(
    `the mask of "${id}" does not fit any more behind \`${between.use}\`: put this stage before it`,
  );
}
