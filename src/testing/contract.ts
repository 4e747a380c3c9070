import assert from 'node:assert/strict';
import { z } from 'zod';
import {
  CONTRACT_VERSION,
  type Kind,
  type PluginOf,
  type SinkInstance,
  type SourceInstance,
  type StageInstance,
} from '../core/plugin.js';
import { testServices, type TestServices, type TestServicesOptions } from './services.js';

/** The two functions of a test runner that a contract suite needs, as in mocha, vitest, jest and node:test. */
export interface TestRunner {
  readonly describe: (title: string, body: () => void) => unknown;
  readonly it: (title: string, body: () => Promise<void>) => unknown;
}

/** The runner's globals; suites accept others as their last argument. */
export const globalRunner: TestRunner = {
  describe: (title, body) => (globalThis as unknown as TestRunner).describe(title, body),
  it: (title, body) => (globalThis as unknown as TestRunner).it(title, body),
};

/** What every contract suite needs to know of a plugin. */
export interface Harness<K extends Kind> {
  readonly plugin: PluginOf<K>;
  /** The contents of `with:`. */
  readonly with?: Readonly<Record<string, unknown>>;
  /** Services other than the default ones, the engine for example. */
  readonly services?: TestServicesOptions;
  /** Settings that must be refused, by the schema or when the plugin is created. */
  readonly refused?: readonly Readonly<Record<string, unknown>>[];
  /** Cleans up after one test. */
  dispose?(): Promise<void> | void;
}

/** Creates a harness; called once per test, so that tests are independent. */
export type Factory<H> = () => H | Promise<H>;

interface Instances {
  readonly source: SourceInstance;
  readonly stage: StageInstance;
  readonly sink: SinkInstance;
}

/** A test's harness with services and instances, which are closed at its end. */
export interface Bench<K extends Kind, H extends Harness<K>> {
  readonly harness: H;
  readonly services: TestServices;
  readonly open: (
    settings?: Readonly<Record<string, unknown>>,
    services?: TestServicesOptions,
  ) => Promise<Instances[K]>;
}

/** A plugin of any kind, with unchecked settings and services. */
interface Creatable<I> {
  readonly options: z.ZodObject;
  create(settings: unknown, services: TestServices): I | Promise<I>;
}

/** Runs `test` with a fresh harness, and closes everything after it. */
export function onBench<K extends Kind, H extends Harness<K>>(
  factory: Factory<H>,
  test: (bench: Bench<K, H>) => Promise<void>,
): () => Promise<void> {
  return async () => {
    const harness = await factory();
    const services = testServices(harness.services);
    const opened: Instances[K][] = [];
    try {
      await test({
        harness,
        services,
        async open(settings = harness.with ?? {}, others = {}) {
          const plugin = harness.plugin as unknown as Creatable<Instances[K]>;
          const instance = await plugin.create(plugin.options.parse(settings), { ...services, ...others });
          opened.push(instance);
          return instance;
        },
      });
    } finally {
      for (const instance of opened) await instance.dispose?.();
      await harness.dispose?.();
      services.cleanup();
    }
  };
}

/** The common part of the contract: the definition and its settings. */
export function definitionContract<K extends Kind, H extends Harness<K>>(
  kind: K,
  factory: Factory<H>,
  { it }: TestRunner,
): void {
  it(
    'declares itself (kind, contract, name, one-sentence summary) and takes its settings',
    onBench<K, H>(factory, async ({ harness: { plugin }, open }) => {
      assert.equal(plugin.kind, kind);
      assert.equal(plugin.contract, CONTRACT_VERSION);
      assert.match(plugin.name, /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/, 'expected a name in kebab-case');
      assert.match(plugin.summary, /^\S.*\.$/, 'expected a summary that ends with a full stop');
      await open();
    }),
  );

  it(
    'describes every option, and has examples that its own schema accepts',
    onBench<K, H>(factory, async ({ harness: { plugin } }) => {
      const schema = z.toJSONSchema(plugin.options, { io: 'input', unrepresentable: 'any' });
      for (const [option, property] of Object.entries(schema.properties ?? {})) {
        assert.ok(
          typeof property === 'object' && property.description,
          `option "${option}" needs .describe()`,
        );
      }
      for (const example of plugin.examples ?? []) plugin.options.parse(example.with);
    }),
  );

  it(
    'refuses settings that it does not know or cannot use',
    onBench<K, H>(factory, async ({ harness, open }) => {
      const wrong = [{ ...harness.with, noSuchOption: true }, ...(harness.refused ?? [])];
      for (const settings of wrong) {
        await assert.rejects(open(settings), `expected ${JSON.stringify(settings)} to be refused`);
      }
    }),
  );
}
