import preact from '@preact/preset-vite';
import { defineConfig } from 'vite';

/** Builds the page into dist/page, from where the running process serves it. The page loads nothing from elsewhere. */
export default defineConfig({
  root: import.meta.dirname,
  base: './',
  plugins: [preact()],
  build: { outDir: '../../dist/page', emptyOutDir: true, target: 'es2022', assetsInlineLimit: 0 },
});
