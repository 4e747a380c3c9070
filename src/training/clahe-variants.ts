import { RxrayError } from '../core/errors.js';
import type { PreprocessingStep } from '../models/bundle.js';
import type { Split } from './film.js';
import { resolveChain, type PreparedFilms } from './preprocess.js';
import { prepare, type Recipe } from './recipe.js';

/** The films of some splits, in their order, without the chain's CLAHE and with half and twice its clip limit. Throws `TRAINING_DATA`. */
export async function claheVariants(
  recipe: Recipe,
  splits: readonly Split[],
  signal?: AbortSignal,
): Promise<PreparedFilms[]> {
  const { registry, baseDir } = recipe;
  const resolved = await resolveChain(recipe.chain, registry, baseDir);
  const found: PreparedFilms[] = [];
  for (const chain of claheChains(resolved.map(({ url: _url, ...step }) => step))) {
    found.push((await prepare({ ...recipe, chain }, splits, () => true, signal)).prepared);
  }
  return found;
}

/** The chains with other CLAHE; `chain` has its defaults filled in. Throws `TRAINING_DATA` for a chain that has none. */
export function claheChains(chain: readonly PreprocessingStep[]): PreprocessingStep[][] {
  if (!chain.some(({ use }) => use === 'clahe')) {
    throw new RxrayError('TRAINING_DATA', '--vary-clahe needs a step `clahe` in the preprocessing');
  }
  const limitedBy = (factor: number): PreprocessingStep[] =>
    chain.map((step) => {
      if (step.use !== 'clahe') return step;
      return { ...step, with: { ...step.with, clipLimit: Number(step.with.clipLimit) * factor } };
    });
  return [chain.filter(({ use }) => use !== 'clahe'), limitedBy(0.5), limitedBy(2)];
}
