import { readFile } from 'node:fs/promises';
import { expect } from 'chai';

const root = new URL('../../', import.meta.url);
const read = (path: string): Promise<string> => readFile(new URL(path, root), 'utf8');

describe('docs/testing.md', () => {
  it('names a test against every kind of fault, and all of them exist', async () => {
    const rows = [...(await read('docs/testing.md')).matchAll(/^\| .+ \| `(test\/[^`]+)`: (.+?) *\|$/gm)];
    expect(rows).to.have.length.above(70);
    for (const [, path = '', title = ''] of rows) {
      expect((await read(path)).replaceAll("\\'", "'"), path).to.contain(title);
    }
  });
});
