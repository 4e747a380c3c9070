import { expect } from 'chai';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { drawFile } from '../../src/cli/graph.js';
import { drawingOf, toMermaid, toSvg } from '../../src/cli/drawing.js';
import { parsePipeline } from '../../src/core/config/load.js';
import { builtInRegistry } from '../../src/host/builtins.js';
import type { Drawing } from '../../src/cli/drawing.js';
import { rxray } from '../support/lab.js';

const YAML = `
version: 1
name: ward <3>
sources:
  - use: watch
    with: { path: ./inbox }
stages:
  - use: decode
  - id: end
    use: clahe
    with: { clipLimit: 3 }
    concurrency: 2
  - id: classes
    use: resnet
    with: { bundle: ./models/none }
    batch: { size: 8 }
sinks:
  - use: console
  - use: webhook
    when: results.classes.label == "\${LABEL}"
    with: { url: "https://\${HOST}/\${TOKEN}", secret: abcdef, headers: { authorization: Bearer 123456 } }
`;

const env = { LABEL: 'private-label', HOST: 'private-host', TOKEN: 'private-token' };

async function draw(): Promise<Drawing> {
  const registry = builtInRegistry();
  const { pipeline } = await parsePipeline(YAML, { file: '/data/ward.yaml', registry, env, lint: false });
  if (pipeline === undefined) throw new Error('the pipeline is not valid');
  return drawingOf(pipeline);
}

describe('rxray graph', () => {
  it('draws Mermaid', async () => {
    expect(
      toMermaid(await draw())
        .split('\n')
        .slice(0, 12),
    ).to.deep.equal([
      'flowchart LR',
      '  n_watch(["<b>watch</b><br>path inbox"]):::source',
      '  n_decode["<b>decode</b>"]:::stage',
      '  n_end["<b>end</b><br>clahe<br>clipLimit 3<br>concurrency 2"]:::stage',
      '  n_classes["<b>classes</b><br>resnet<br>bundle none<br>batch 8"]:::stage',
      '  n_console[/"<b>console</b>"/]:::sink',
      '  n_webhook[/"<b>webhook</b>"/]:::sink',
      '  n_watch --> n_decode',
      '  n_decode --> n_end',
      '  n_end --> n_classes',
      '  n_classes --> n_console',
      '  n_classes -->|"results.classes.label == #quot;${LABEL}#quot;"| n_webhook',
    ]);
  });

  it('draws SVG with every entry and every arrow', async () => {
    const svg = toSvg(await draw());
    for (const id of ['watch', 'decode', 'end', 'classes', 'console', 'webhook'])
      expect(svg).to.contain(`>${id}</text>`);
    expect(svg.match(/marker-end/g)).to.have.length(5);
    expect(svg).to.contain('ward &lt;3&gt;');
  });

  it('shows nothing that is or may be secret', async () => {
    const drawing = await draw();
    for (const picture of [toMermaid(drawing), toSvg(drawing)]) {
      expect(picture).to.not.match(/private|abcdef|123456|https/);
    }
  });

  describe('into a file', () => {
    let folder: string;
    let file: string;
    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'rxray-graph-'));
      file = join(folder, 'p.yaml');
      writeFileSync(file, YAML.replaceAll(/\$\{(\w+)\}/g, '$1'));
    });
    after(() => {
      rmSync(folder, { recursive: true });
    });

    it('draws PNG at twice the size of the SVG, even before the models are trained', async () => {
      expect(await drawFile(file, { output: join(folder, 'out/p.svg') })).to.equal(0);
      expect(await drawFile(file, { output: join(folder, 'out/p.png') })).to.equal(0);
      const width = Number(/width="(\d+)"/.exec(readFileSync(join(folder, 'out/p.svg'), 'utf8'))?.[1]);
      const metadata = await sharp(join(folder, 'out/p.png')).metadata();
      expect(metadata).to.include({ format: 'png', width: 2 * width });
    });

    it('gives the same as JSON', async () => {
      const { stdout, code } = await rxray('graph', file, '--json');
      expect(code).to.equal(0);
      const { cards, arrows } = JSON.parse(stdout) as Drawing;
      expect(cards.map(({ id }) => id)).to.deep.equal([
        'watch',
        'decode',
        'end',
        'classes',
        'console',
        'webhook',
      ]);
      expect(arrows).to.have.length(5);
    });
  });
});
