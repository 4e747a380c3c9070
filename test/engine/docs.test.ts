import { expect } from 'chai';
import { readFile, writeFile } from 'node:fs/promises';
import { GRADIENT_RULES } from '../../src/engine/gradients/index.js';
import { KERNELS_OF_LISTS } from '../../src/engine/gradients/structural.js';
import { KERNEL_GROUPS } from '../../src/engine/kernels/index.js';
import { LEFT_OUT } from '../../src/engine/missing-kernel.js';

const PAGE = new URL('../../docs/engine.md', import.meta.url);

/** The operator table of the page, from the registry. */
function kernelTable(): string {
  const gradients = new Set([
    ...GRADIENT_RULES.map(({ kernel }) => kernel),
    ...KERNELS_OF_LISTS,
    'RxrayBatchNormTraining',
  ]);
  const rows = Object.entries(KERNEL_GROUPS).flatMap(([group, kernels]) =>
    kernels.map(
      ({ kernel, onnx }) => `| ${group} | \`${kernel}\` | ${onnx} | ${gradients.has(kernel) ? 'yes' : ''} |`,
    ),
  );
  return ['| group | TensorFlow.js kernel | ONNX | gradient |', '| --- | --- | --- | --- |', ...rows].join(
    '\n',
  );
}

/** The ops that are left out, from the table that makes their errors. */
function leftOutTable(): string {
  const rows = LEFT_OUT.map(
    ({ what, kernels, instead }) =>
      `| ${what} | ${kernels.map((kernel) => `\`${kernel}\``).join(', ')} | ${instead} |`,
  );
  return ['| what | TensorFlow.js kernels | instead |', '| --- | --- | --- |', ...rows].join('\n');
}

function withBlock(page: string, block: string, text: string): string {
  const [begin, end] = [`<!-- ${block}:begin -->`, `<!-- ${block}:end -->`];
  const [before, rest = ''] = page.split(begin);
  return `${before ?? ''}${begin}\n${text}\n${end}${rest.split(end)[1] ?? ''}`;
}

describe('docs/engine.md', () => {
  it('lists every kernel, and those that are left out (UPDATE_DOCS=1 writes the tables anew)', async () => {
    const page = await readFile(PAGE, 'utf8');
    const wanted = withBlock(withBlock(page, 'kernels', kernelTable()), 'left-out', leftOutTable());
    if (process.env['UPDATE_DOCS'] === '1') await writeFile(PAGE, wanted);
    expect(process.env['UPDATE_DOCS'] === '1' ? wanted : page).to.equal(wanted);
  });
});
