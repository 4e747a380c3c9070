import type { Issue } from './pipeline.js';

type Problem = Pick<Issue, 'code' | 'message'>;

/**
 * Replaces `${NAME}` and `${NAME:-default}` (used where NAME is unset or empty, as in a shell) by
 * values of `env`. `$${` gives a literal `${`.
 */
export function substitute(
  text: string,
  env: Readonly<Record<string, string | undefined>>,
): { text: string; problems: Problem[] } {
  const problems: Problem[] = [];
  const replaced = text.replaceAll(
    /\$\$\{|\$\{(?:([A-Za-z_]\w*)(?::-([^}]*))?\})?/g,
    (match, name?: string, fallback?: string) => {
      if (match === '$${') return '${';
      if (name === undefined) {
        problems.push({
          code: 'CONFIG_INVALID',
          message:
            'expected ${NAME} or ${NAME:-default} after `${` (write `$${` for the two characters themselves)',
        });
        return match;
      }
      if (fallback?.includes('${') === true) {
        problems.push({
          code: 'CONFIG_INVALID',
          message: `the default of \${${name}} has a variable of its own, which is not supported`,
        });
        return match;
      }
      const value = env[name];
      if (value !== undefined && (value !== '' || fallback === undefined)) return value;
      if (fallback !== undefined) return fallback;
      problems.push({
        code: 'CONFIG_ENV_MISSING',
        message: `the environment variable ${name} is not set: set it, or write \${${name}:-default}`,
      });
      return match;
    },
  );
  return { text: replaced, problems };
}
