import { expect } from 'chai';
import { readFile, writeFile } from 'node:fs/promises';
import { GRADIENT_RULES } from '../../src/engine/gradients/index.js';
import { KERNEL_GROUPS } from '../../src/engine/kernels/index.js';

const PAGE = new URL('../../docs/engine.md', import.meta.url);
const [BEGIN, END] = ['<!-- kernels:begin -->', '<!-- kernels:end -->'];

/** The operator table of the page, from the registry. */
function kernelTable(): string {
  const gradients = new Set([
    ...GRADIENT_RULES.map(({ kernel }) => kernel),
    'Concat',
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

describe('docs/engine.md', () => {
  it('lists every kernel (UPDATE_DOCS=1 writes the table anew)', async () => {
    const page = await readFile(PAGE, 'utf8');
    const [before, rest = ''] = page.split(BEGIN);
    const after = rest.split(END)[1] ?? '';
    const wanted = `${before ?? ''}${BEGIN}\n${kernelTable()}\n${END}${after}`;
    if (process.env['UPDATE_DOCS'] === '1') await writeFile(PAGE, wanted);
    expect(process.env['UPDATE_DOCS'] === '1' ? wanted : page).to.equal(wanted);
  });
});
