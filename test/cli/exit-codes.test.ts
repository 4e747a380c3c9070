import { spawnSync } from 'node:child_process';
import { chmod } from 'node:fs/promises';
import { expect } from 'chai';
import { film } from '../support/films.js';
import { CLI, GRAPH, Lab, rxray } from '../support/lab.js';

describe('exit codes', () => {
  let lab: Lab;

  beforeEach(async () => {
    lab = await Lab.open(GRAPH, { 'inbox/good.png': await film().png().toBuffer() });
  });

  afterEach(() => lab.close());

  it('0: every film is done', async () => {
    const { code, stderr } = await lab.run();
    expect(code, stderr).to.equal(0);
  });

  it('0: there was nothing to do', async () => {
    await lab.run();
    const { code, stderr } = await lab.run();
    expect(code, stderr).to.equal(0);
    expect(stderr).to.contain('1 film is already done; --again processes it anew');
  });

  it('1: some films failed', async () => {
    await lab.write('inbox/bad.png', 'not a film');
    const { code, stderr } = await lab.run();
    expect(code, stderr).to.equal(1);
  });

  it('1: a folder could not be read, and is named', async () => {
    await lab.write('inbox/ward/locked.png', 'x');
    await chmod(lab.path('inbox/ward'), 0o000);
    const { code, stderr } = await lab.run([], { asNobody: true });
    await chmod(lab.path('inbox/ward'), 0o755);
    expect(code, stderr).to.equal(1);
    expect(stderr).to.match(/✗ ward {2}a folder cannot be read \(EACCES\)/);
  });

  it('1: a film waits for a sink that is down, and the summary counts it', async () => {
    const sink =
      "- use: webhook\n    retry: { giveUpAfterMs: 100, backoffMs: 50 }\n    with: { url: 'http://127.0.0.1:9/' }";
    await lab.write('pipeline.yaml', GRAPH.replace(/- use: csv[^]*$/, sink));
    const { code, stderr } = await lab.run();
    expect(code, stderr).to.equal(1);
    expect(stderr).to.contain('1 film wait').and.not.contain('no films found');
  });

  it('2: errors in the pipeline file, or no such file', async () => {
    await lab.write('pipeline.yaml', 'version: 2\n');
    expect((await lab.run()).code).to.equal(2);
    expect((await rxray('run', lab.path('nowhere.yaml'))).code).to.equal(2);
    expect((await rxray('lint', lab.path('pipeline.yaml'))).code).to.equal(2);
  });

  it('2: the current folder has been deleted', () => {
    const { status, stderr } = spawnSync(
      'sh',
      ['-c', `mkdir gone && cd gone && rmdir ../gone && exec "$0" "$1" lint`, process.execPath, CLI],
      { cwd: lab.path('.'), encoding: 'utf8' },
    );
    expect(status, stderr).to.equal(2);
    expect(stderr).to.contain('the current folder does not exist any more');
  });

  it('2: wrong usage, with a suggestion', async () => {
    const option = await rxray('run', '--onec');
    expect(option.code).to.equal(2);
    expect(option.stderr).to.contain('--once');
    const command = await rxray('rnu');
    expect(command.code).to.equal(2);
    expect(command.stderr).to.contain('run');
  });

  it('3: a plugin ends the process, or never finishes loading', async () => {
    await lab.write('pipeline.yaml', GRAPH.replace('use: csv', 'use: ./plugin.mjs'));
    for (const text of ['process.exit();', 'await new Promise(() => undefined);']) {
      await lab.write('plugin.mjs', text);
      const { code, stderr } = await lab.run();
      expect(code, stderr).to.equal(3);
      expect(stderr).to.contain('a plugin called process.exit(), or never finished loading');
    }
  });

  it('3: another process holds the journal', async () => {
    const running = lab.start();
    await running.until(async () => (await lab.delivered()).length > 0);
    const { code, stderr } = await lab.run();
    running.interrupt();
    expect((await running.ended()).code).to.equal(0);
    expect(code, stderr).to.equal(3);
    expect(stderr).to.contain('STATE_LOCKED');
  });

  it('0: rxray --help, which lists every command with the summary that its own help begins with', async () => {
    const { code, stdout } = await rxray('--help');
    expect(code).to.equal(0);
    for (const name of ['run', 'doctor']) {
      const [summary] = /(?<=\n\n).+/.exec((await rxray(name, '--help')).stdout) ?? [];
      expect(summary).to.match(/\.$/);
      expect(stdout.replaceAll(/\n {18}/g, ' ')).to.match(new RegExp(`^  ${name} +${summary}$`, 'm'));
    }
  });

  const commands = [
    'run',
    'lint',
    'test',
    'graph',
    'plugins',
    'new',
    'sample',
    'train resnet',
    'train anogan',
    'top',
    'tap',
    'doctor',
  ];
  for (const command of commands) {
    it(`0: rxray ${command} --help, which shows an example`, async () => {
      const { code, stdout } = await rxray(...command.split(' '), '--help');
      expect(code).to.equal(0);
      expect(stdout)
        .to.match(/Examples?:\n/)
        .and.contain(`$ rxray ${command}`);
    });
  }

  it('0: rxray start --help, which shows an example', async () => {
    const { code, stdout } = await rxray('start', '--help');
    expect(code).to.equal(0);
    expect(stdout)
      .to.match(/Examples?:\n/)
      .and.contain('$ npm start');
  });
});
