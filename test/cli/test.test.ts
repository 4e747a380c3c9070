import { existsSync } from 'node:fs';
import { expect } from 'chai';
import { film } from '../support/films.js';
import { Lab, rxray } from '../support/lab.js';

const GRAPH = `
version: 1
sources:
  - use: watch
    with: { path: ./inbox }
stages:
  - use: decode
  - id: anomaly
    use: anogan
    with: { bundle: ./no-such-bundle }
sinks:
  - use: csv
    with: { path: './\${OUT}' }
  - id: alarm
    use: console
    when: results.anomaly.percentile > 99
`;

const MOCK = 'mock: { anomaly: { kind: anomaly, percentile: 99.5, rawSum: 12.3 } }';

describe('rxray test', () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open(GRAPH, {
      'films/good.png': await film().png().toBuffer(),
      'films/bad.png': 'not a film',
    });
  });
  after(() => lab.close());

  async function test(tests: string): ReturnType<typeof rxray> {
    await lab.write('pipeline.test.yaml', `env: { OUT: out.csv }\ntests:\n${tests.replaceAll(/^/gm, '  ')}`);
    return rxray('test', lab.path('pipeline.test.yaml'));
  }

  it('passes films with the expected results, and delivers nothing', async () => {
    const { code, stdout, stderr } = await test(`
- name: rings the alarm
  film: films/good.png
  ${MOCK}
  expect:
    meta.format: png
    results.anomaly.percentile: { above: 99 }
    results.anomaly.rawSum: { value: 12, within: 0.5 }
  that: [results.anomaly.percentile == 99.5, file.endsWith("good.png")]
  sinks: [csv, alarm]
- name: does not ring it
  film: films/good.png
  mock: { anomaly: { kind: anomaly, percentile: 3 } }
  sinks: [csv]
- name: is no film
  film: films/bad.png
  as: ward-3/bad.png
  ${MOCK}
  fails: { stage: decode, code: FRAME_NOT_AN_IMAGE, message: PNG }
- name: a stage that fails
  film: films/good.png
  mock: { anomaly: { error: out of memory } }
  fails: { stage: anomaly, message: out of memory }
`);
    expect(stdout, stderr).to.match(
      /^✓ rings the alarm\n✓ does not ring it\n✓ is no film\n✓ a stage that fails\n4 passed, 0 failed \(.* s\)\n$/,
    );
    expect(code).to.equal(0);
    expect(existsSync(lab.path('out.csv')), 'a sink was written').to.equal(false);
    expect(existsSync(lab.path('.rxray')), 'a journal was written').to.equal(false);
  });

  it('takes the verdict and the name of a film, as conditions do', async () => {
    const mock = 'mock: { anomaly: { kind: anomaly, percentile: 3, abnormal: true, suspicion: 0.8 } }';
    const { code, stdout, stderr } = await test(`
- film: films/good.png
  as: ward-3/good.png
  ${mock}
  expect: { verdict.abnormal: true, verdict.stage: anomaly, verdict.suspicion: { above: 0.5 }, file: ward-3/good.png }
- film: films/good.png
  ${mock}
  expect: { verdict.abnormal: false }
`);
    expect(stdout, stderr).to.match(/^✓ .*\n✗ .*\n {4}verdict\.abnormal: expected false, got true\n1 passed/);
    expect(code).to.equal(1);
  });

  it('prints for each failing test what was expected and what came, and exits with 1', async () => {
    const { code, stdout } = await test(`
- film: films/good.png
  ${MOCK}
  expect: { meta.format: jpeg, results.anomaly.percentile: { below: 50 }, meta.nothing: 1 }
  that: [results.anomaly.percentile < 1, meta.absent == 1]
  sinks: [csv]
- film: films/good.png
  ${MOCK}
  fails: {}
- film: films/bad.png
  ${MOCK}
`);
    expect(code).to.equal(1);
    expect(code).to.equal(1);
    expect(stdout).to.match(
      new RegExp(
        `^✗ films/good.png
    sinks: expected csv, got csv, alarm
    meta.format: expected "jpeg", got "png"
    results.anomaly.percentile: expected below 50, got 99.5
    meta.nothing: expected 1, got nothing
    \`results.anomaly.percentile < 1\` is false
    \`meta.absent == 1\` failed: .*
✗ films/good.png
    should fail, but succeeded
✗ films/bad.png
    failed in decode: .* \\(FRAME_NOT_AN_IMAGE\\)
0 passed, 3 failed`,
      ),
    );
  });

  it('shows mistakes in the file of tests with line and caret, all at once, and exits with 2', async () => {
    const { code, stderr } = await test('- film: films/good.png\n  expct: {}\n- that: [1 +]');
    expect(code).to.equal(2);
    expect(stderr)
      .to.match(/pipeline\.test\.yaml:4:5 error .*unknown key `expct`.*did you mean `expect`\?/)
      .and.match(/pipeline\.test\.yaml:5:5 error .*`tests\[1\]\.film`/)
      .and.contain('does not parse');
  });

  it('names films, stages and models that are not there, and exits with 2', async () => {
    const film = await test('- film: films/none.png');
    expect(film.code).to.equal(2);
    expect(film.stderr).to.contain('there is no film films/none.png');
    const stage = await test('- film: films/good.png\n  mock: { anomoly: { kind: x } }');
    expect(stage.code).to.equal(2);
    expect(stage.stderr).to.contain('there is no stage "anomoly" to mock, only decode, anomaly');
    const model = await test('- film: films/good.png');
    expect(model.code).to.equal(2);
    expect(model.stderr).to.contain('no-such-bundle');
  });

  it('says that its file is not there, and exits with 2', async () => {
    for (const name of ['none.test.yaml', 'none.test.ts']) {
      const { code, stderr } = await rxray('test', lab.path(name));
      expect(code).to.equal(2);
      expect(stderr).to.match(/^there is no file .*none\.test\..*: expected tests of a graph/);
    }
  });
});
