import { expect } from 'chai';
import { lintId } from '../../src/core/config/expressions.js';
import {
  compileCondition,
  compileExpression,
  expressionFault,
  ExpressionSyntaxError,
  referencesOf,
} from '../../src/core/expression.js';
import { RxrayError } from '../../src/core/errors.js';
import type { Frame } from '../../src/core/frame.js';

const frame: Frame = {
  id: '0123456789abcdef0123456789abcdef',
  origin: {
    source: 'watch',
    name: 'ward-3/film.png',
    path: '/in/ward-3/film.png',
    size: 1234,
    mtimeMs: 0,
    sha256: 'ab',
    receivedAt: '2026-01-01T00:00:00.000Z',
  },
  image: { width: 2, height: 1, channels: 1, data: Uint8Array.of(1, 2) },
  meta: { format: 'png', rows: 4, none: null, missing: undefined },
  results: {
    classes: {
      kind: 'classification',
      label: 'normal',
      probability: 0.75,
      probabilities: { normal: 0.75, ill: 0.25 },
      topK: [],
    },
    anomaly: {
      kind: 'anomaly',
      anomalyScore: 12.5,
      rawSum: 99,
      percentile: 100,
      map: { data: new Float32Array(2) },
    },
  },
};

describe('an expression', () => {
  const values: readonly [string, unknown][] = [
    ['file', 'ward-3/film.png'],
    ['id.size()', 32],
    ['origin.source + ":" + file', 'watch:ward-3/film.png'],
    ['results.anomaly.percentile > 99', true],
    ['verdict.abnormal == null', true],
    ['results.anomaly.anomalyScore > 12', true],
    ['results["classes"].label in ["ill", "normal"]', true],
    ['results.classes.probabilities', { normal: 0.75, ill: 0.25 }],
    ['results.classes.probabilities.map(label, label)', ['normal', 'ill']],
    ['has(results.other) || file.startsWith("ward")', true],
    ['meta.none == null', true],
    ['meta.none != null && meta.none > 3', false],
    ['results.anomaly.percentile != null && results.anomaly.percentile > 99', true],
    ['meta.rows * 2.0', 8],
    ['meta.rows == 4 ? "four" : "other"', 'four'],
    ['1 + 2', 3],
    ['{"a": [1, 2u]}', { a: [1, 2] }],
  ];
  for (const [text, value] of values) {
    it(`${text} gives ${JSON.stringify(value)}`, () => {
      expect(compileExpression(text)(frame)).to.deep.equal(value);
    });
  }

  const failures = {
    'results.other.x > 1': 'field not found: other',
    'meta.missing == 1': 'field not found: missing',
    'meta.none > 3': "found no matching overload for '_>_' applied to '(null_type, int)'",
    nothing: 'unresolved attribute',
    '1 / 0': 'int divide by zero',
    'nowhere(1)': 'unbound function: nowhere',
  };
  for (const [text, reason] of Object.entries(failures)) {
    it(`${text} throws, although CEL returns its errors`, () => {
      expect(() => compileExpression(text)(frame))
        .to.throw(RxrayError, `\`${text}\` failed: ${reason}`)
        .with.property('code', 'FRAME_EXPRESSION');
    });
  }

  it('says where it does not parse', () => {
    for (const [text, offset, message] of [
      ['results.a >', 10, 'unexpected `>`'],
      ['', 0, 'unexpected end'],
      ['(1', 2, 'unexpected end'],
      ['a ? b', 2, 'unexpected `?`'],
    ] as const) {
      expect(() => compileExpression(text))
        .to.throw(ExpressionSyntaxError, `the expression does not parse: ${message}`)
        .with.property('offset', offset);
    }
  });

  it('as a condition is true or false, nothing else', () => {
    expect(compileCondition('results.classes.label == "normal"')(frame)).to.equal(true);
    expect(compileCondition('results.classes.probability < 0.5')(frame)).to.equal(false);
    expect(() => compileCondition('results.classes.label')(frame))
      .to.throw('`results.classes.label` should be true or false, it is "normal"')
      .with.property('code', 'FRAME_EXPRESSION');
  });
});

describe('the references of an expression', () => {
  const named = (text: string): string[] => {
    const { variables, results } = referencesOf(text);
    const at = ({ name, offset }: { name: string; offset: number }): string => {
      expect(text.slice(offset, offset + name.length)).to.equal(name);
      return name;
    };
    return [...variables.map(at), ...results.map((result) => `${result.tested ? '?' : '.'}${at(result)}`)];
  };

  it('are its variables and the stages whose results it reads, with their places', () => {
    expect(named('results.a.x > 1 && meta.rows == 2')).to.deep.equal(['results', 'meta', '.a']);
    expect(named('results["a"].x')).to.deep.equal(['results', '.a']);
    expect(named('has(results.a)')).to.deep.equal(['results', '?a']);
    expect(named('"ä😀" + results . a.x')).to.deep.equal(['results', '.a']);
    expect(named('[id, {"k": file}[x]]')).to.deep.equal(['id', 'file', 'x']);
  });

  it('leave out what a macro binds', () => {
    expect(named('results.exists(key, key == id && other)')).to.deep.equal(['results', 'id', 'other']);
    expect(named('meta.rows.map(results, results.a)')).to.deep.equal(['meta']);
  });
});

describe('an id', () => {
  it('is refused when CEL does not take it for the name of a field', () => {
    const words =
      'as break const continue else false for function if import in let loop namespace null package return';
    for (const word of [...words.split(' '), 'true', 'var', 'void', 'while', 'results', 'a_1', '_']) {
      expect(lintId(word) === undefined, word).to.equal(expressionFault(`results.${word}`) === undefined);
    }
  });
});
