import { expect } from 'chai';
import { parse } from 'yaml';
import { builtIns, builtInRegistry } from '../../src/host/builtins.js';
import { describePlugins } from '../../src/cli/plugins.js';
import { RxrayError } from '../../src/core/errors.js';
import type { Kind } from '../../src/core/plugin.js';

describe('rxray plugins', () => {
  const all = (['source', 'stage', 'sink'] as const).flatMap((kind: Kind) =>
    Object.keys(builtIns[kind]).map((name) => [kind, name] as const),
  );

  it('lists every built-in plugin with its summary', async () => {
    const text = await describePlugins();
    for (const [, name] of all) expect(text).to.match(new RegExp(`^ {2}${name} +[A-Z].*\\.$`, 'm'));
  });

  for (const [kind, name] of all) {
    it(`describes every option of ${name}, and its examples are valid`, async () => {
      const { plugin } = await builtInRegistry().load(kind, name, process.cwd());
      const sections = (await describePlugins(name)).split('\n\n\n');
      const text = sections.find((section) => section.startsWith(`${name}  ${kind}`)) ?? '';
      for (const option of Object.keys(plugin.options.shape)) expect(text).to.contain(`\n  ${option}  `);
      for (const [option, schema] of Object.entries(plugin.options.shape)) {
        expect((schema as { description?: string }).description, option).to.be.a('string');
      }
      for (const example of plugin.examples ?? []) plugin.options.parse(example.with);
      const yaml = text.split('examples\n')[1] ?? '';
      for (const part of yaml.split('\n\n').filter((each) => each !== '')) {
        expect(parse(part)).to.have.nested.property(`${kind}s[0].use`, name);
      }
    });
  }

  it('shows types, ranges and defaults', async () => {
    const text = await describePlugins('resize');
    expect(text).to.match(/^ {2}width {2}integer 1–\d+\n.*Required\.$/m);
    expect(text).to.match(/^ {2}interpolation {2}nearest \| linear \| .*\n[^]*Default: "area"\.$/m);
  });

  it('gives JSON with the options as JSON Schema', async () => {
    const one = JSON.parse(await describePlugins('clahe', { json: true })) as object;
    expect(one)
      .to.include({ kind: 'stage', name: 'clahe' })
      .and.have.nested.property('options.properties.clipLimit.default');
    expect(JSON.parse(await describePlugins(undefined, { json: true }))).to.have.length(all.length);
  });

  it('reports an unknown plugin', async () => {
    const error = await describePlugins('clahhe').catch((reason: unknown) => reason);
    expect(error)
      .to.be.instanceOf(RxrayError)
      .with.property('message')
      .that.contains('did you mean `clahe`?');
  });
});
