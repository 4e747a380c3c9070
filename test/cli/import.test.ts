import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { expect } from 'chai';
import { toOnnx } from '../../src/engine/index.js';
import { readBundle } from '../../src/models/bundle.js';
import { labelsWith } from '../../src/training/labels.js';
import { rxray } from '../support/lab.js';
import { tinyModel } from '../support/onnx-models.js';

/** As PyTorch exports them: N × C × H × W. Its logits are the mean brightness, twice it, and its negative. */
function foreign(batch: 'symbolic' | undefined, softmax = false): Uint8Array {
  return toOnnx(
    ({ input }) => {
      const mean = tf.mean(input as tf.Tensor4D, [1, 2, 3]);
      const logits = tf.stack([mean, tf.mul(mean, 2), tf.neg(mean)], 1);
      return { output: softmax ? tf.softmax(logits) : logits };
    },
    { input: { shape: [1, 3, 32, 32] } },
    batch === undefined ? {} : { batch },
  ).bytes;
}

describe('rxray import', function () {
  this.timeout(120_000);
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'rxray-import-'));
    await writeFile(join(dir, 'model.onnx'), foreign('symbolic'));
    await writeFile(join(dir, 'single.onnx'), foreign(undefined, true));
    await writeFile(join(dir, 'three.txt'), 'dark\nbright\nnegative\n');
  });
  after(() => rm(dir, { recursive: true }));

  const model = (name: string, out: string): string[] => ['import', join(dir, name), '--out', join(dir, out)];

  it('takes the labels from the model, or from a file beside it, unless others are given', async () => {
    const model = foreign('symbolic');
    const folder = join(dir, 'with-labels');
    await mkdir(folder);
    await writeFile(
      join(folder, 'config.json'),
      '{ "id2label": { "0": "dark", "1": "bright", "2": "none" } }',
    );
    expect(await labelsWith(join(folder, 'model.onnx'), {})).to.deep.equal({
      ...{ labels: ['dark', 'bright', 'none'], from: join(folder, 'config.json') },
    });
    for (const text of ["{0: 'a', 1: 'b c'}", '["a", "b c"]', 'a,b c', '{"0": "a", "1": "b c"}']) {
      const found = await labelsWith(join(folder, 'model.onnx'), { names: text });
      expect(found).to.deep.equal({ labels: ['a', 'b c'], from: 'the model\'s metadata "names"' });
    }
    expect(await labelsWith(join(dir, 'elsewhere', 'model.onnx'), {})).to.equal(undefined);
    await writeFile(join(folder, 'model.onnx'), model);
    const args = ['import', join(folder, 'model.onnx'), '--out', join(dir, 'brought'), '--json'];
    const { code, stdout, stderr } = await rxray(...args);
    expect(code, stderr).to.equal(0);
    expect(stderr).to.contain('config.json: dark, bright, none');
    expect(Object.keys((JSON.parse(stdout) as { answer: object }).answer)).to.deep.equal([
      'dark',
      'bright',
      'none',
    ]);
  });

  it('records the ids of the steps of --preprocess, by which later ones name them', async () => {
    const chain = join(dir, 'chain.yaml');
    await writeFile(chain, '- decode\n- id: small\n  use: resize\n  with: { width: 32, height: 32 }\n');
    const given = ['--labels', 'dark,bright,negative', '--range', '0,1', '--preprocess', chain, '--json'];
    const { code, stderr } = await rxray(...model('model.onnx', 'named'), ...given);
    expect(code, stderr).to.equal(0);
    const { preprocessing } = await readBundle(join(dir, 'named'));
    expect(preprocessing.map(({ id }) => id)).to.deep.equal([undefined, 'small']);
  });

  it('writes a bundle whose mean and std are those of samples from 0 to 1, and tries it on a film', async () => {
    const given = ['--labels', 'dark,bright,negative', '--range=-1024,1024', '--mean', '512', '--std', '256'];
    const { code, stdout, stderr } = await rxray(...model('model.onnx', 'wide'), ...given, '--json');
    expect(code, stderr).to.equal(0);
    const said = JSON.parse(stdout) as { activation: string; answer: Record<string, number> };
    expect(said.activation).to.equal('softmax');
    expect(Object.keys(said.answer)).to.deep.equal(['dark', 'bright', 'negative']);
    // Logits m, 2m and −m: the ratios of neighbours tell the same m, which is a film's mean brightness.
    const { dark = 0, bright = 0, negative = 0 } = said.answer;
    const m = Math.log(bright / dark);
    expect(Math.log(dark / negative)).to.be.closeTo(2 * m, 1e-3);
    expect((m * 256 + 512 + 1024) / 2048).to.be.within(0.2, 0.8);
    const bundle = await readBundle(join(dir, 'wide'));
    expect(bundle.input).to.deep.equal({
      ...{ width: 32, height: 32, channels: 3, layout: 'NCHW' },
      ...{ mean: [0.75], std: [0.125] },
    });
    expect(bundle.check?.tensor).to.match(/^[0-9a-f]{64}$/);
    expect(await readFile(join(dir, 'wide', 'README.md'), 'utf8')).to.include('Not a medical device');
  });

  it('runs a model that was exported for one film at a time, and leaves its probabilities as they are', async () => {
    const labels = ['--labels', join(dir, 'three.txt')];
    const { code, stdout, stderr } = await rxray(...model('single.onnx', 'single'), ...labels);
    expect(code, stderr).to.equal(0);
    expect(stdout)
      .to.include('its output is read as probabilities of one label (its numbers sum to 1)')
      .and.to.match(/it gives: bright \d/);
    expect(await readBundle(join(dir, 'single'))).to.include({ activation: 'none', multiLabel: false });
  });

  it('refuses settings that cannot be right, with 2 and the reason', async () => {
    // Over a bundle that is there, which stays as it was.
    const before = await readBundle(join(dir, 'single'));
    const [few, size, double, place, silent, none] = await Promise.all([
      rxray(...model('model.onnx', 'single'), '--labels', 'a,b'),
      rxray(...model('model.onnx', 'x'), '--labels', 'a,b,c', '--size', '48'),
      rxray(...model('model.onnx', 'x'), '--labels', 'a,B,b'),
      rxray(...model('model.onnx', '.'), '--labels', 'a,b,c'),
      rxray(...model('model.onnx', 'x')),
      rxray(...model('three.txt', 'x'), '--labels', 'a'),
    ]);
    for (const { code, stderr } of [few, size, double, place, silent, none]) expect(code, stderr).to.equal(2);
    expect(await readBundle(join(dir, 'single'))).to.deep.equal(before);
    expect(few.stderr).to.include('IMPORT_REFUSED expected one number for each of the 2 labels');
    expect(size.stderr).to.include('it does not run on NCHW images of 48×48×3');
    expect(double.stderr).to.include('"B" is label 2 and 3').and.to.include('"a", "B", "b"');
    expect(place.stderr).to.include('BUNDLE_PLACE');
    expect(await readdir(dir))
      .to.include.members(['model.onnx', 'three.txt'])
      .and.not.include('x');
    expect(silent.stderr).to.include('the model file does not contain everything: give --labels');
    expect(none.stderr).to.include('IMPORT_REFUSED').and.to.include('cannot be loaded');
  });

  it('refuses a model that never answers, or crashes its process, and leaves nothing behind', async () => {
    await writeFile(join(dir, 'endless.onnx'), tinyModel({ weights: [1, 2], endlessAbove: -1 }).bytes);
    const labels = ['--labels', 'a,b', '--timeout', '2'];
    const { code, stderr } = await rxray(...model('endless.onnx', 'endless'), ...labels);
    expect(code, stderr).to.equal(2);
    expect(stderr)
      .to.include('IMPORT_REFUSED')
      .and.include('did not answer within 2 s')
      .and.include('--timeout');
    expect(await readdir(dir)).not.to.include('endless');
    const none = await rxray(...model('endless.onnx', 'endless'), '--labels', 'a,b', '--timeout', '0');
    expect(none.code).to.equal(2);
    expect(none.stderr).to.include('expected seconds above 0');
  });
});
