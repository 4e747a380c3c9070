import { isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument, visit } from 'yaml';
import type { Document, Node, Pair, Scalar, YAMLMap } from 'yaml';
import type { Location } from '../errors.js';
import type { Issue } from './pipeline.js';
import { substitute } from './environment.js';

/** A path inside the data: keys and indices, as zod reports them. */
export type Path = readonly PropertyKey[];

/** A range of the text. */
export interface Place {
  readonly location: Location;
  readonly length: number;
}

/** Bounds what nested aliases may expand to (the yaml package's own measure). */
const MAX_ALIAS_COUNT = 100;

/** Parse errors after which the rest of the tree is still valid. */
const HARMLESS = new Set(['DUPLICATE_KEY', 'NON_STRING_KEY']);

/**
 * A YAML text with the position of every value. Environment variables are substituted in string values after parsing,
 * so that no variable can change the structure.
 */
export class YamlFile {
  readonly issues: Issue[] = [];
  /** The contents as plain data; undefined when the text has a syntax error. */
  readonly data: unknown;
  /** The contents before environment variables were substituted, which may be shown to others. */
  readonly written: unknown;
  readonly #document: Document;
  readonly #lines = new LineCounter();
  readonly #substituted = new WeakSet<Node>();

  constructor(
    private readonly text: string,
    env: Readonly<Record<string, string | undefined>>,
  ) {
    this.#document = parseDocument(text, {
      lineCounter: this.#lines,
      merge: true,
      prettyErrors: false,
      stringKeys: true,
      logLevel: 'error',
    });
    if (this.#hasSyntaxErrors() || this.#hasBadAliases()) return;
    this.written = this.#toData();
    if (this.written === undefined) return;
    this.#substitute(env);
    this.data = this.#toData();
  }

  /** The position of the value at `path`; if there is none, of the nearest mapping around it. */
  place(path: Path): Place {
    const node = this.#node(path);
    if (node !== undefined) return this.#placeOf(node);
    return path.length === 0 ? { location: { line: 1, column: 1 }, length: 1 } : this.parent(path);
  }

  /** The position of the key of the last step of `path`. */
  key(path: Path): Place {
    const map = this.#node(path.slice(0, -1));
    const pair = isMap(map) ? this.#pair(map, path.at(-1)) : undefined;
    return isNode(pair?.key) ? this.#placeOf(pair.key) : this.place(path);
  }

  /** The position to show when something is missing at `path`: the first key of the mapping that should have it. */
  parent(path: Path): Place {
    const parent = path.slice(0, -1);
    const node = this.#node(parent);
    const first = isMap(node) && node.flow !== true ? node.items[0]?.key : undefined;
    if (isNode(first)) return this.#placeOf(first);
    return parent.length === path.length ? this.place([]) : this.place(parent);
  }

  /**
   * The position `offset` characters inside the string at `path`; the whole string if it has escapes or folded lines.
   */
  inside(path: Path, offset: number): Place {
    const node = this.#node(path);
    if (!isScalar(node) || typeof node.value !== 'string' || !node.range) return this.place(path);
    const start = node.range[0] + (/["']/.test(this.text[node.range[0]] ?? '') ? 1 : 0);
    if (!this.text.startsWith(node.value, start)) return this.place(path);
    return this.#placeAt(start + Math.min(offset, node.value.length), 1);
  }

  /** The value at `path` as written in the file, shortened, with environment variables not substituted. */
  excerpt(path: Path): string {
    const node = this.#node(path);
    if (isMap(node)) return 'a mapping';
    if (isSeq(node)) return 'a list';
    if (!node?.range) return 'nothing';
    const { range } = node;
    const text = this.text.slice(range[0], range[1]).replaceAll(/\s+/g, ' ').trim();
    if (text === '') return 'nothing';
    return text.length > 40 ? `${text.slice(0, 39)}…` : text;
  }

  /** Whether the string at `path` contains a substituted environment variable. */
  isSubstituted(path: Path): boolean {
    const node = this.#node(path);
    return node !== undefined && this.#substituted.has(node);
  }

  /** The pair of `map` with this `key`, also in mappings merged by `<<`. */
  #pair(map: YAMLMap, key: PropertyKey | undefined): Pair | undefined {
    const merged: YAMLMap[] = [];
    for (const pair of map.items) {
      const name = isScalar(pair.key) ? pair.key.value : undefined;
      if (String(name) === key) return pair;
      if (isScalar(pair.key) && pair.key.source === '<<') {
        const value = this.#resolved(pair.value);
        merged.push(
          ...[value, ...(isSeq(value) ? value.items.map((item) => this.#resolved(item)) : [])].filter(isMap),
        );
      }
    }
    for (const other of merged) {
      const pair = this.#pair(other, key);
      if (pair !== undefined) return pair;
    }
    return undefined;
  }

  #node(path: Path): Node | undefined {
    let node = this.#resolved(this.#document.contents);
    for (const step of path) {
      if (isMap(node)) node = this.#resolved(this.#pair(node, step)?.value);
      else if (isSeq(node)) node = this.#resolved(node.items[Number(step)]);
      else return undefined;
    }
    return node;
  }

  #resolved(value: unknown): Node | undefined {
    if (isAlias(value)) return value.resolve(this.#document);
    return isNode(value) ? value : undefined;
  }

  #placeOf(node: Node): Place {
    const [start, end] = node.range ?? [0, 1];
    const stop = this.text.slice(start, end).search(/\r?\n|$/);
    const length = isMap(node) || isSeq(node) ? (node.flow === true ? stop : 1) : stop;
    return this.#placeAt(start, Math.max(1, length));
  }

  #placeAt(offset: number, length: number): Place {
    const { line, col } = this.#lines.linePos(offset);
    return { location: { line: Math.max(1, line), column: Math.max(1, col) }, length };
  }

  #hasSyntaxErrors(): boolean {
    const { errors, warnings } = this.#document;
    const stopper = errors.find((error) => !HARMLESS.has(error.code));
    for (const { code, message, pos } of stopper === undefined ? errors : [stopper])
      this.#report('error', this.#explain(code, message, pos[0]), this.#placeAt(pos[0], 1));
    for (const { message, pos } of stopper === undefined ? warnings : [])
      this.#report('warning', lowerFirst(message), this.#placeAt(pos[0], pos[1] - pos[0]));
    return stopper !== undefined;
  }

  #report(severity: Issue['severity'], message: string, place: Place): void {
    this.issues.push({ severity, code: 'CONFIG_SYNTAX', message, ...place });
  }

  #explain(code: string, message: string, offset: number): string {
    if (code === 'TAB_AS_INDENT') return 'tabs are not allowed as indentation: use spaces';
    if (code === 'DUPLICATE_KEY') {
      const key = /^["']?[^\s:"']+/.exec(this.text.slice(offset))?.[0] ?? 'a key';
      return `\`${key}\` occurs twice in the same mapping`;
    }
    if (code === 'RESOURCE_EXHAUSTION') return 'nested too deeply';
    if (code === 'MULTILINE_IMPLICIT_KEY') return 'expected `key: value`, with a space after the colon';
    if (this.text[offset - 1] === '$' && this.text[offset] === '{') {
      return 'inside { } an environment variable needs quotes: "${NAME}"';
    }
    return lowerFirst(message.split(';')[0] ?? message);
  }

  #hasBadAliases(): boolean {
    let first: Issue | undefined;
    visit(this.#document, {
      Pair: (_, { key, value }) => {
        if (!isScalar(key) || key.type !== 'PLAIN' || key.source !== '<<') return;
        const merged = this.#resolved(value);
        const mappings = isSeq(merged) ? merged.items.map((item) => this.#resolved(item)) : [merged];
        if (mappings.every((node) => node === undefined || isMap(node))) return;
        const message = '`<<` takes a mapping with an anchor (`<<: *name`), or a list of them';
        first ??= { severity: 'error', code: 'CONFIG_SYNTAX', message, ...this.#placeOf(key) };
      },
      Alias: (_, alias, ancestors) => {
        const target = alias.resolve(this.#document);
        const message =
          target === undefined
            ? `\`*${alias.source}\` has no anchor above it`
            : ancestors.includes(target)
              ? `\`*${alias.source}\` contains itself`
              : undefined;
        if (message !== undefined)
          first ??= { severity: 'error', code: 'CONFIG_SYNTAX', message, ...this.#placeOf(alias) };
      },
    });
    if (first !== undefined) this.issues.push(first);
    return first !== undefined;
  }

  #substitute(env: Readonly<Record<string, string | undefined>>): void {
    visit(this.#document, {
      Scalar: (key, node: Scalar) => {
        if (key === 'key' || typeof node.value !== 'string') return;
        const { text, problems } = substitute(node.value, env);
        for (const problem of problems) {
          this.issues.push({ severity: 'error', ...problem, ...this.#placeOf(node) });
        }
        const shell = /^(?:~|\$([A-Za-z_]\w*))(?=[/\\])/.exec(node.value);
        if (shell !== null) {
          const message = `\`${shell[0]}\` is not replaced: write "\${${shell[1] ?? 'HOME'}}" for it`;
          this.issues.push({ severity: 'warning', code: 'CONFIG_INVALID', message, ...this.#placeOf(node) });
        }
        if (text !== node.value) this.#substituted.add(node);
        node.value = text;
      },
    });
  }

  #toData(): unknown {
    try {
      return this.#document.toJS({ maxAliasCount: MAX_ALIAS_COUNT });
    } catch (error) {
      if (!(error instanceof ReferenceError) && !(error instanceof RangeError)) throw error;
      this.#report('error', 'the aliases expand to too much data', this.place([]));
      return undefined;
    }
  }
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
