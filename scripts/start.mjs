// `npm start -- …`: builds if needed, then runs `rxray start …` in this process, so that Ctrl-C reaches it.
import './build.mjs';

process.argv.splice(2, 0, 'start');
await import('../dist/cli/main.js');
