import { z } from 'zod';

/** The part of JSON Schema that zod writes for options. */
export interface Schema {
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly items?: Schema | Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly required?: readonly string[];
  readonly default?: unknown;
  readonly description?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
}

/** JSON Schema of the input. */
export function schemaOf(options: z.ZodType): Schema {
  return z.toJSONSchema(options, { target: 'draft-7', io: 'input', unrepresentable: 'any' }) as Schema;
}

/** One option, or a part of one, as text. */
export interface OptionRow {
  readonly option: string;
  readonly type: string;
  readonly about: string;
}

/** Every option with its parts: `rotate`, `rotate.every`. */
export function optionRows({ properties = {}, required = [] }: Schema, prefix = ''): OptionRow[] {
  return Object.entries(properties).flatMap(([key, schema]) => {
    const fate = required.includes(key)
      ? 'Required.'
      : schema.default === undefined
        ? ''
        : `Default: ${JSON.stringify(schema.default)}.`;
    const about = [schema.description ?? '', fate].filter((part) => part !== '').join(' ');
    const option = `${prefix}${key}`;
    return [{ option, type: typeText(schema), about }, ...optionRows(schema, `${option}.`)];
  });
}

/** `integer 1–64`, `number > 0`, `nearest | linear`, `list of text`. */
function typeText(schema: Schema): string {
  const { anyOf = schema.oneOf, items } = schema;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return choices(schema.enum.map(String));
  if (anyOf !== undefined) return [...new Set(anyOf.map(typeText))].join(' | ');
  switch (schema.type) {
    case 'array':
      return items === undefined ? 'list' : `list of ${[items].flat().map(typeText).join(', ')}`;
    case 'string':
      return 'text';
    case 'boolean':
      return 'true | false';
    case 'integer':
    case 'number':
      return `${schema.type}${range(schema)}`;
    case 'object':
      return 'mapping';
    default:
      return schema.type ?? 'anything';
  }
}

function range({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }: Schema): string {
  // zod bounds every integer by the safe integers
  const [low, high] = [minimum, maximum].map((bound) =>
    bound !== undefined && Number.isSafeInteger(bound) && Math.abs(bound) === Number.MAX_SAFE_INTEGER
      ? undefined
      : bound,
  );
  if (low !== undefined && high !== undefined) return ` ${low}–${high}`;
  const parts = [
    low === undefined ? '' : `≥ ${low}`,
    exclusiveMinimum === undefined ? '' : `> ${exclusiveMinimum}`,
    high === undefined ? '' : `≤ ${high}`,
    exclusiveMaximum === undefined ? '' : `< ${exclusiveMaximum}`,
  ].filter((part) => part !== '');
  return parts.length === 0 ? '' : ` ${parts.join(', ')}`;
}

/** A long list is shortened to a count; the schema has all of it. */
function choices(terms: readonly string[]): string {
  if (terms.length <= 20) return terms.join(' | ');
  return `${terms.slice(0, 3).join(' | ')} | … (${String(terms.length)} terms)`;
}
