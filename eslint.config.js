import js from '@eslint/js';
import rxjsX from 'eslint-plugin-rxjs-x';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist/', '.compiled/', 'out/', 'coverage/', 'models/', 'fixtures/', 'src/imaging/wasm/'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [
      tseslint.configs.strictTypeChecked,
      tseslint.configs.stylisticTypeChecked,
      rxjsX.configs.strict,
    ],
    languageOptions: {
      parserOptions: { project: './tsconfig.test.json', tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // Numbers in messages are the rule here, not an accident.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // An async function without await is how a plugin implements a contract that returns promises.
      '@typescript-eslint/require-await': 'off',
      // Plugins take their services apart, `create(settings, { log, resolve })`: those need no `this`.
      '@typescript-eslint/unbound-method': 'off',
      'rxjs-x/no-unbound-methods': 'off',
      // Its remedy is the `!` that no-non-null-assertion forbids.
      '@typescript-eslint/non-nullable-type-assertion-style': 'off',
      '@typescript-eslint/dot-notation': ['error', { allowIndexSignaturePropertyAccess: true }],
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: 'only-allowed-literals' },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-imports': ['error', { disallowTypeAnnotations: false }],
      // What was caught is passed on as it is, whatever it is.
      '@typescript-eslint/only-throw-error': ['error', { allowThrowingUnknown: true }],
      'rxjs-x/throw-error': ['error', { allowThrowingUnknown: true }],
      // An error that nobody handles ends the process, and an EmptyError is as good as any default.
      'rxjs-x/no-ignored-error': 'off',
      'rxjs-x/no-ignored-default-value': 'off',
    },
  },
  {
    files: ['src/page/**/*.{ts,tsx}'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { project: './src/page/tsconfig.json', tsconfigRootDir: import.meta.dirname },
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // chai asserts by reading properties: expect(x).to.be.true
      '@typescript-eslint/no-unused-expressions': 'off',
      // Stubs do nothing, and what a test keeps of a stream is bounded by the test.
      '@typescript-eslint/no-empty-function': 'off',
      'rxjs-x/no-ignored-replay-buffer': 'off',
      // Marble diagrams are spread into their frames.
      '@typescript-eslint/no-misused-spread': 'off',
      // In a test, a missing element should simply fail it.
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['**/*.{js,mjs,cjs}'],
    languageOptions: {
      globals: { console: 'readonly', process: 'readonly', URL: 'readonly', module: 'writable' },
    },
  },
);
